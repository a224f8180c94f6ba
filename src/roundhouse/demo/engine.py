"""A llama-server that really runs on this machine: the prebuilt one, else llama.cpp as a Python module behind our shim.

Whether one runs is found out by loading a model and asking it for a token: the prebuilt one needs AVX-512, and says so
only by dying of an illegal instruction when it computes.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roundhouse.demo import assets
from roundhouse.demo.fetch import Unavailable
from roundhouse.demo.problems import DemoError
from roundhouse.runtime.listening import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.demo.cache import Cache

ENGINE_VARIABLE: Final = "ROUNDHOUSE_DEMO_ENGINE"
"""Environment variable: `xllamacpp` takes the module without trying the prebuilt server."""

_PATIENCE: Final = 60.0  # seconds for a 100 MB model to load and say a token, on a slow and busy machine


@dataclass(frozen=True, slots=True)
class Engine:
    """A program that takes llama-server's flags.

    Attributes:
        program: what to run.
        prebuilt: llama.cpp's own server, not our shim. It is larger in memory (it repacks weights) and knows GPUs.
        note: why it is not the prebuilt one, in words; empty if it is.
    """

    program: Path
    prebuilt: bool
    note: str = ""


def choose(cache: Cache, model: Path, environment: Mapping[str, str]) -> Engine:
    """The best engine that can serve `model` here.

    Raises:
        DemoError: none runs, with each one's reason.
    """
    obstacle = _obstacle(environment)
    if not obstacle:
        try:
            engine = _prebuilt(cache)
        except Unavailable as error:
            obstacle = error.message
        else:
            obstacle = _trial(engine.program, model)
            if not obstacle:
                return engine
    fallback = _module(cache, obstacle)
    failure = _trial(fallback.program, model)
    if failure:
        raise DemoError(f"No llama.cpp runs here. The prebuilt llama-server: {obstacle}. xllamacpp: {failure}.")
    return fallback


def _obstacle(environment: Mapping[str, str]) -> str:
    """Why the prebuilt server need not be tried; empty if it may run. Saves a download of 68 MB."""
    if environment.get(ENGINE_VARIABLE) == "xllamacpp":
        return f"{ENGINE_VARIABLE}=xllamacpp was asked for"
    if platform.machine() != "x86_64":
        return f"it is built for x86_64, and this is {platform.machine()}"
    if "avx512f" not in _processor_flags():
        return "it needs AVX-512, which this processor does not have"
    return ""


def _processor_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _prebuilt(cache: Cache) -> Engine:
    folder = cache.get(assets.LLAMA_SERVER)
    # Its own folder holds a Vulkan loader, which must win over an older one of the system.
    libraries = [folder, *_openmp(cache)]
    return Engine(_script(cache, "llama-server", [folder / "llama-server"], libraries), prebuilt=True)


def _module(cache: Cache, note: str) -> Engine:
    command = [sys.executable, "-m", "roundhouse.demo.xllama_server"]
    program = _script(cache, "xllama-server", command, _openmp(cache), modules=cache.get(assets.XLLAMACPP))
    return Engine(program, prebuilt=False, note=note)


def _openmp(cache: Cache) -> list[Path]:
    """Where to find libgomp, if the system has none: a fresh Debian does not, and both engines need it."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return [cache.get(assets.LIBGOMP)]
    return []


def _script(
    cache: Cache, name: str, command: Sequence[str | Path], libraries: Sequence[Path], modules: Path | None = None
) -> Path:
    """A program that sets the search paths and becomes the engine: one path says it all in the configuration."""
    lines = ["#!/bin/sh"]
    for variable, folders in (("LD_LIBRARY_PATH", libraries), ("PYTHONPATH", [modules] if modules else [])):
        if folders:
            value = ":".join(map(str, folders))
            lines.append(f"export {variable}={shlex.quote(value)}${{{variable}:+:${variable}}}")
    lines.append(f'exec {shlex.join(map(str, command))} "$@"')
    program = cache.root / "bin" / name
    program.parent.mkdir(exist_ok=True)
    fresh = program.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.chmod(0o755)
    fresh.replace(program)
    return program


def _trial(program: Path, model: Path) -> str:
    """Why `program` can't serve `model`; empty if it can."""
    port = free_port()
    flags = ["--model", str(model), "--ctx-size", "256", "--host", "127.0.0.1", "--port", str(port)]
    # The shell keeps a processor that lacks an instruction from leaving a core file.
    command = ["sh", "-c", 'ulimit -c 0; exec "$0" "$@"', str(program), *flags]
    with (
        (program.parent / "trial.log").open("wb+") as log,
        subprocess.Popen(  # noqa: S603 - our own command line
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            failure = _first_token(server, port)
        finally:
            server.kill()
        server.wait()
        if failure:
            log.seek(0)
            failure += _last_line(log.read().decode(errors="replace"))
    return failure


def _first_token(server: subprocess.Popen[bytes], port: int) -> str:
    """Asks until the server has loaded and answered, died, or the time is up; says which of the failures it was."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return _ending(server.returncode)
        if _says_a_token(port):
            return ""
        time.sleep(0.05)
    return f"it gave no token within {_PATIENCE:.0f} s"


def _says_a_token(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        body = json.dumps({"prompt": "The", "max_tokens": 1})
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ending(code: int) -> str:
    if code == -4:  # SIGILL
        return "this processor lacks an instruction that it uses"
    return f"it was killed by signal {-code}" if code < 0 else f"it ended with exit code {code}"


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return f" (its last words: {lines[-1][:200]})" if lines else ""
