"""What a real llama-server logs for its caches, and the table of it that the default suite reads.

`python -m tests.support.cache_log` writes the table again, with the llama-server that the tests use.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.ports import Build, Command
from tests.support import gguf_shapes
from tests.support.real_engine import free_port, real_build, running

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = Path(__file__).parent.parent / "captures" / "llamacpp" / "caches-b10434.json"
BUFFER = re.compile(r"(?:KV|RS) buffer size = +([\d.]+) MiB")
LAST = "compute buffer size"
COMMON = ("--no-warmup", "-fit", "off", "-lv", "4", "-t", "1")

EVERY = ("-c 4096 -np 2",)
MORE = (
    "-c 4096 -np 1", "-c 5000 -np 3", "-c 4096 -np 4 -ctk q8_0 -ctv q8_0",
    "-c 8192 -np 3 -kvu", "-c 6000 -np 2 --swa-full", "-c 1000 -np 3 -ub 256 -b 128", "-c 2048 -np -1",
)  # fmt: skip
LONG = ("-c 16384 -np 1", "-c 24576 -np 2 -kvu")
SEVERAL = (
    "smollm2-135m", "gemma-3-270m", "gemma-3n-e4b", "gemma-4", "gpt-oss-20b", "qwen2.5-7b", "deepseek-v2-lite",
    "deepseek-v2-lite-old", "qwen3.5-0.8b", "falcon-h1-0.5b", "lfm2-1.2b",
)  # fmt: skip
LARGE_WINDOWS = ("gemma-2-2b", "gemma-2-2b-unsaid", "command-r7b", "llama-4-scout-8-layers")


def cases() -> list[tuple[str, str]]:
    """Shape and arguments of each entry of the table."""
    every = [(name, args) for name in gguf_shapes.SHAPES for args in EVERY]
    more = [(name, args) for name in SEVERAL for args in MORE]
    mixed = [(name, "-c 4096 -np 2 -ctk q8_0 -ctv q4_0") for name in ("smollm2-135m", "gemma-3-270m", "gemma-4")]
    return every + more + mixed + [(name, args) for name in LARGE_WINDOWS for args in LONG]


def logged(build: Build, path: Path, args: Sequence[str], log: Path) -> list[float]:
    """MiB of each cache buffer, from the log of a server that loads `path`."""
    port = free_port()
    argv = (*build.argv, "-m", str(path), "--host", "127.0.0.1", "--port", str(port), *COMMON, *args)
    with running(Command(argv), port, log) as server:
        deadline = time.monotonic() + 60
        while not any(LAST in line for line in server.lines()):
            assert server.process.poll() is None, server.lines()[-5:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        text = "\n".join(server.lines())
    return [float(size) for size in BUFFER.findall(text)]


def main() -> None:
    build = real_build()
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for name, args in cases():
            path = gguf_shapes.write(Path(folder, "shape.gguf"), gguf_shapes.SHAPES[name])
            table.append({"shape": name, "args": args, "mib": logged(build, path, args.split(), Path(folder, "log"))})
    lines = ",\n".join(json.dumps(row) for row in table)
    TABLE.write_text(f'{{"build": {json.dumps(build.version)}, "caches": [\n{lines}\n]}}\n')
    sys.stdout.write(f"{len(table)} caches of {build.version}\n")


if __name__ == "__main__":
    main()
