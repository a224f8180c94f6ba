"""The programs that are measured: how each is started on a port before the same engine stub."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".cache" / "bench"


@dataclass(frozen=True)
class Running:
    """A proxy that answers: its name in the table, port, the model to ask for, and the pids whose CPU time counts."""

    name: str
    version: str
    port: int
    model: str
    pids: tuple[int, ...]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(argv: list[str], log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, by its pid."""
    with log.open("wb") as output:
        started = subprocess.Popen(argv, stdout=output, stderr=output, cwd=ROOT, env={**os.environ, **env})
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def wait_answer(url: str, running: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if running.poll() is not None:
            raise SystemExit(f"ended at once: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no answer at {url} after {seconds:.0f} s: {log.read_text()[-2000:]}")


@contextlib.contextmanager
def stub(folder: Path) -> Iterator[int]:
    port = free_port()
    with process([sys.executable, "-m", "bench.stub", str(port)], folder / "stub.log") as running:
        wait_answer(f"http://127.0.0.1:{port}/v1/models", running, folder / "stub.log")
        yield port


@contextlib.contextmanager
def roundhouse(
    folder: Path, engine: int, name: str = "Roundhouse", python: str = sys.executable, more: str = ""
) -> Iterator[Running]:
    """With every feature on: a key, metrics, history, usage, status. `more` is more of its configuration."""
    from roundhouse import __version__
    from roundhouse.api.auth import hash_key

    folder = folder / name.replace(" ", "-")
    folder.mkdir()

    port, config, log = free_port(), folder / "roundhouse.yaml", folder / "roundhouse.log"
    config.write_text(
        f"listen: 127.0.0.1:{port}\nstate_dir: {folder / 'state'}\n"
        f"models:\n  stub: {{url: 'http://127.0.0.1:{engine}/v1', engine: openai, slots: 512, health: /v1/models}}\n"
        f"keys:\n  - {{name: bench, hash: '{hash_key('sk-bench')}'}}\n"
        f"scheduling: {{queue: {{per_key: 512}}}}\n{more}"
    )
    with process([python, "-m", "roundhouse", "serve", "-c", str(config)], log) as running:
        wait_answer(f"http://127.0.0.1:{port}/health", running, log)
        yield Running(name, __version__, port, "stub", (running.pid,))


def peers_python() -> Path:
    """An environment of its own for the peers, made once."""
    python = PEERS / "venv" / "bin" / "python"
    wanted = (ROOT / "bench" / "peers" / "requirements.txt").read_text()
    stamp = PEERS / "installed.txt"
    if not python.exists() or not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(PEERS / "venv", ignore_errors=True)
        PEERS.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS / "venv")], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "-r", "bench/peers/requirements.txt"]
        subprocess.run(install, check=True, cwd=ROOT)
        stamp.write_text(wanted)
    return python


def version_of(package: str) -> str:
    ask = f"import importlib.metadata as m; print(m.version('{package}'))"
    return subprocess.run([str(peers_python()), "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def fastapi_httpx(folder: Path, engine: int) -> Iterator[Running]:
    port, log = free_port(), folder / "fastapi.log"
    argv = [str(peers_python()), "bench/peers/fastapi_httpx.py", str(port), str(engine)]
    with process(argv, log) as running:
        wait_answer(f"http://127.0.0.1:{port}/docs", running, log)
        version = f"{version_of('fastapi')} + httpx {version_of('httpx')}"
        yield Running("FastAPI + httpx relay", version, port, "stub", (running.pid,))


@contextlib.contextmanager
def litellm(folder: Path, engine: int) -> Iterator[Running]:
    port, config, log = free_port(), folder / "litellm.yaml", folder / "litellm.log"
    config.write_text(
        "model_list:\n  - model_name: stub\n    litellm_params:\n      model: openai/stub\n"
        f"      api_base: http://127.0.0.1:{engine}/v1\n      api_key: none\n"
        "litellm_settings: {telemetry: false, drop_params: true}\n"
    )
    argv = [str(peers_python().parent / "litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": "sk-bench"}
    with process(argv, log, **quiet) as running:
        wait_answer(f"http://127.0.0.1:{port}/health/liveliness", running, log, 180)
        yield Running("LiteLLM proxy", version_of("litellm"), port, "stub", (running.pid,))
