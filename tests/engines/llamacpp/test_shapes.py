"""KV caches estimated from headers against what a real llama-server logged for them (goal of issue 4: exact)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roundhouse.engines.llamacpp.layout import cache, layout
from roundhouse.formats import gguf
from tests.engines.models import MIB, model
from tests.support import cache_log, gguf_shapes
from tests.support.real_engine import real_build

TABLE = json.loads(cache_log.TABLE.read_text())["caches"]
ROUNDING = 0.005 + 1e-9
"""MiB: the log has two decimals."""

REAL = [
    ("gemma-3-270m", "-c 4096 -np 2 -ctk q8_0 -ctv q8_0"),
    ("gemma-3n-e4b", "-c 3000 -np 3 -kvu"),
    ("gpt-oss-20b", "-c 2048 -np 2 --swa-full"),
    ("deepseek-v2-lite", "-c 1024 -np 1"),
    ("qwen3.5-0.8b", "-c 2048 -np 2"),
    ("smollm2-135m", "-c 2000 -np 3"),
]


def estimated(path: Path, name: str, args: str) -> float:
    """MiB by the header alone."""
    gguf_shapes.write(path, gguf_shapes.SHAPES[name])
    with path.open("rb") as file:
        facts = gguf.read(file, path.stat().st_size)
    return cache(layout(model(args=tuple(args.split())), facts), facts) / MIB


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row['shape']} {row['args']}")
def test_caches_are_what_b10434_logged(row, tmp_path: Path):
    ours = estimated(tmp_path / "shape.gguf", row["shape"], row["args"])
    assert abs(ours - sum(row["mib"])) <= ROUNDING * len(row["mib"]), (ours, row["mib"])


def test_the_table_has_every_shape():
    assert [(row["shape"], row["args"]) for row in TABLE] == cache_log.cases()


@pytest.mark.real
@pytest.mark.parametrize(("name", "args"), REAL)
def test_caches_are_what_a_real_server_logs(name: str, args: str, tmp_path: Path):
    build = real_build()
    if "-lv" not in build.flags:
        pytest.skip("xllamacpp does not say what its caches take")
    ours = estimated(tmp_path / "shape.gguf", name, args)
    theirs = cache_log.logged(build, tmp_path / "shape.gguf", args.split(), tmp_path / "log")
    assert theirs
    assert abs(ours - sum(theirs)) <= ROUNDING * len(theirs), (ours, theirs)
