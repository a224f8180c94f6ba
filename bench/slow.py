"""Models whose loads and answers take as long as a benchmark says, in an unmodified llama-server, without the processor.

`slow.c` is preloaded into the engine and waits in its decode step. So whoever starts the engine, Roundhouse or
llama-server's own router, meets the same engine; and two cores are enough to play what fills a GPU.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.gguf_files import write_tiny_chat, write_tiny_embedding

SOURCE = Path(__file__).with_name("slow.c")
SENTENCE = "I am {name} , the tiny test model that always says exactly this sentence ."
CONTEXT, SLOTS = 32768, 4
"""Tokens per answer and answers at once of the tiny chat models: 256 MiB of KV cache with their eight layers."""


def library(folder: Path) -> Path:
    """Compiles `slow.c` into the folder."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("bench-switching needs a C compiler as `cc` for bench/slow.c; install gcc")
    made = folder / "slow.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"], check=True)
    return made


def chat(folder: Path, name: str) -> Path:
    """A tiny chat model with a KV cache of 256 MiB, so that memory decides which models fit together."""
    return write_tiny_chat(folder / f"{name}.gguf", name, SENTENCE.format(name=name), n_ctx=CONTEXT, n_layer=8)


def embedding(folder: Path, name: str) -> Path:
    return write_tiny_embedding(folder / f"{name}.gguf", name)


def set_pace(model: Path, load_s: float, step_s: float) -> None:
    """Seconds that its loads take longer, and that one step (a token of each running answer) takes at least."""
    model.with_name(f"{model.name}.slow").write_text(f"{load_s} {step_s}\n")


def loads(model: Path) -> int:
    """How many engines have loaded it so far, as they noted themselves."""
    noted = model.with_name(f"{model.name}.loads")
    return noted.read_text().count("\n") if noted.exists() else 0
