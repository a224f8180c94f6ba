"""What a switch costs beyond the engine's own load: Roundhouse, the bare engine, and llama-server's own router mode.

Two models that do not fit together are asked in turn. Own load: the very command that Roundhouse runs, started by hand
and asked `/health` every 5 ms. A switch: from the request for the model that is not loaded to the first byte of its
answer, less the time to first byte when it is loaded; the engine it replaces is stopped within it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.gguf_files import write_tiny_chat

from bench import programs
from roundhouse.config.load import parse
from roundhouse.engines import ENGINES
from roundhouse.ports import Build
from roundhouse.runtime import binaries
from roundhouse.runtime.files import facts_of

DEMO = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "roundhouse" / "demo"
WORDS = "I am {name} , a tiny test model that always says exactly this sentence ."


def pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Two tiny models of 3 MB, and the demo's two real ones where `make demo` has fetched them."""
    tiny = tuple(folder / f"tiny-{name}.gguf" for name in ("alpha", "beta"))
    for path in tiny:
        write_tiny_chat(path, path.stem, WORDS.format(name=path.stem))
    found = {"tiny (3 MB)": (tiny[0], tiny[1])}
    real = [next(DEMO.rglob(pattern), None) for pattern in ("SmolLM2*.gguf", "gemma*270m*.gguf")]
    if real[0] and real[1]:
        found["SmolLM2-135M and gemma-3-270m"] = (real[0], real[1])
    return found


def measure(folder: Path, rounds: int, program: str | None) -> dict[str, dict]:
    build = asyncio.run(binaries.find("llamacpp", ENGINES["llamacpp"].binaries, program, folder / "engines.json"))
    found: dict[str, dict] = {}
    for title, (first, second) in pairs(folder).items():
        print(f"switching between {title}", file=sys.stderr)
        own = [own_load(folder, path, build) for _ in range(rounds) for path in (first, second)]
        row = {"engine": " ".join(build.argv), "version": build.version, "own_load_s": middle([o[0] for o in own])}
        row["own_stop_s"] = middle([o[1] for o in own])
        with roundhouse(folder, first, second, program) as port:
            row["roundhouse_switch_s"] = middle(switches(port, ("one", "two"), rounds))
        if build.argv[0].endswith("llama-server") and "models-dir" in " ".join(build.flags):
            with router_mode(folder, build, first, second) as port:
                row["router_mode_switch_s"] = middle(switches(port, (first.stem, second.stem), rounds))
        row["over_own_load_s"] = round(row["roundhouse_switch_s"] - row["own_load_s"], 4)
        row["over_stop_and_load_s"] = round(row["over_own_load_s"] - row["own_stop_s"], 4)
        found[title] = row
    return found


def config(folder: Path, first: Path, second: Path, port: int, program: str | None) -> str:
    engines = f"engines: {{llamacpp: {{binary: '{program}'}}}}\n" if program else ""
    models = "".join(
        f"  {name}: {{path: '{path}', context: 2048, slots: 1, memory: 600MiB}}\n"
        for name, path in (("one", first), ("two", second))
    )
    return f"listen: 127.0.0.1:{port}\nstate_dir: {folder / 'switch'}\ndevices: {{ram: 1000MiB}}\n{engines}models:\n{models}"


def own_load(folder: Path, path: Path, build: Build) -> tuple[float, float]:
    """Seconds from exec to ready, and from SIGTERM to gone, of the engine by itself."""
    port = programs.free_port()
    model = parse(config(folder, path, path, port, None), folder / "own.yaml", os.environ).models["one"]
    command = ENGINES["llamacpp"].command(model, facts_of(path), build, port)
    start = time.perf_counter()
    running = subprocess.Popen(
        command.argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **command.env},
    )
    while ask(port, "GET", "/health") != 200:
        if running.poll() is not None:
            raise SystemExit(f"{' '.join(command.argv)} ended with {running.returncode}")
        time.sleep(0.005)
    ready = time.perf_counter()
    assert running.stdin is not None
    running.stdin.close()  # as our keeper does: in its progress mode llama-server waits for this
    running.terminate()
    running.wait(60)
    return ready - start, time.perf_counter() - ready


def ask(port: int, method: str, path: str, body: dict | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        data = json.dumps(body) if body is not None else None
        connection.request(method, path, data, {"content-type": "application/json"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def first_byte(port: int, model: str) -> float:
    """Seconds to a one-token answer, its prompt computed anew: what a loaded model kept of it would flatter the others."""
    body = {"model": model, "max_tokens": 1, "cache_prompt": False, "messages": [{"role": "user", "content": "hi"}]}
    start = time.perf_counter()
    status = ask(port, "POST", "/v1/chat/completions", body)
    if status != 200:
        raise SystemExit(f"{model} answered {status}")
    return time.perf_counter() - start


def switches(port: int, models: tuple[str, str], rounds: int) -> list[float]:
    """Seconds of each switch beyond the same request to the loaded model."""
    found = []
    first_byte(port, models[1])
    for _ in range(rounds):
        for model in models:
            cold = first_byte(port, model)
            found.append(cold - min(first_byte(port, model) for _ in range(3)))
    return found


@contextlib.contextmanager
def roundhouse(folder: Path, first: Path, second: Path, program: str | None) -> Iterator[int]:
    port, file, log = programs.free_port(), folder / "switch.yaml", folder / "switch.log"
    file.write_text(config(folder, first, second, port, program))
    with programs.process([sys.executable, "-m", "roundhouse", "serve", "-c", str(file)], log) as running:
        programs.wait_answer(f"http://127.0.0.1:{port}/health", running, log)
        yield port


@contextlib.contextmanager
def router_mode(folder: Path, build: Build, first: Path, second: Path) -> Iterator[int]:
    """llama-server's own router, one model at a time."""
    models, port, log = folder / "router", programs.free_port(), folder / "router.log"
    models.mkdir(exist_ok=True)
    for path in models.iterdir():
        path.unlink()
    for path in (first, second):
        (models / path.name).symlink_to(path)
    argv = [*build.argv, "--models-dir", str(models), "--models-max", "1", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["-c", "2048", "-np", "1", "-fit", "off"]
    with programs.process(argv, log) as running:
        programs.wait_answer(f"http://127.0.0.1:{port}/models", running, log)
        yield port


def middle(values: list[float]) -> float:
    return round(statistics.median(values), 4)


def table(found: dict[str, dict]) -> str:
    head = "| switch between | engine's own load | its own stop | Roundhouse's switch | more than load | more than stop + load |"
    lines = [f"{head} llama-server's router mode |", "|---|---|---|---|---|---|---|"]
    for title, row in found.items():
        cells = [row["own_load_s"], row["own_stop_s"], row["roundhouse_switch_s"], row["over_own_load_s"]]
        cells += [row["over_stop_and_load_s"], row.get("router_mode_switch_s")]
        lines.append(f"| {title} | " + " | ".join("–" if c is None else f"{c * 1000:.0f} ms" for c in cells) + " |")
    return "\n".join(lines)
