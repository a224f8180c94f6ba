"""Runs a model's `stop_command`: engines in containers are ended by their runtime, not by signals to its client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING

from roundhouse.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


async def run(words: Sequence[str], env: Mapping[str, str], limit: float) -> None:
    """Runs it to its end, for at most `limit` seconds. Raises LoadFailed in words when it failed or was not done."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env={**os.environ, **env}
        )
    except OSError as error:
        raise LoadFailed(f"its stop_command can't be run: {error}") from error
    try:
        async with asyncio.timeout(limit):
            said, _ = await process.communicate()
    except TimeoutError:
        raise LoadFailed(f"its stop_command was not done after {limit:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                process.kill()
            await process.wait()
    if process.returncode:
        last = (said.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise LoadFailed(f"its stop_command ended with exit code {process.returncode}: {last[:200]}")
