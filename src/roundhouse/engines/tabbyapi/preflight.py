"""What speaks against a load before anything is unloaded for it: TabbyAPI unloads first and finds out afterwards.

Knows models and checkouts by their facts and by which paths exist; reads no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from roundhouse.engines.tabbyapi import settings, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.config.models import ModelConfig, Tabby
    from roundhouse.ports import ModelFacts

MAIN: Final = "main.py"
EXL2_BACKEND: Final = "backends/exllamav2/model.py"
"""Went with commit c8b9a8f of 14 July 2026. The file, for its folder may stay behind with compiled files."""
EXL3_BACKEND: Final = "backends/exllamav3/model.py"

NEEDS_EXL2: Final = frozenset({"exl2", "gptq"})
FOREIGN: Final = frozenset({
    "awq", "bitsandbytes", "compressed-tensors", "fbgemm_fp8", "fp8", "gguf", "hqq", "modelopt", "mxfp4", "quanto",
    "torchao",
})  # fmt: skip
"""Quantisations of other engines. exllamav3 reads EXL3 and plain weights, exllamav2 EXL2, GPTQ and plain weights."""

MODES: Final = "FP16, Q8, Q6, Q4, or bits of keys and values such as `8,6` (2 to 8)"


def witnesses(model: ModelConfig) -> tuple[Path, ...]:
    """The checkout, the backends it has, the folders of the model and of its draft."""
    tabby = settings.tabby_of(model)
    folder = source(tabby)
    draft = draft_folder(model)
    checkout = tuple(tabby.dir / name for name in (MAIN, EXL2_BACKEND, EXL3_BACKEND))
    return (*checkout, tabby.model_dir, folder, folder / "config.json", *((draft,) if draft else ()))


def objection(model: ModelConfig, facts: ModelFacts | None, present: frozenset[Path]) -> str | None:
    """The first that is wrong, in words without a full stop."""
    tabby = settings.tabby_of(model)
    found = (*_files(model, tabby, present), *_method(tabby, facts, present), *_cache(tabby, facts))
    return next(iter(found), None)


def source(tabby: Tabby) -> Path:
    """The model's folder."""
    return tabby.model_dir / tabby.model_name


def draft_folder(model: ModelConfig) -> Path | None:
    """Where the draft model must be; None without one, or where only the unit's config.yml knows."""
    tabby = settings.tabby_of(model)
    said = tabby.options.get(settings.DRAFT)
    if not isinstance(said, dict):
        return None
    name, place = said.get("draft_model_name"), said.get("draft_model_dir", str(tabby.model_dir))
    if not isinstance(name, str) or not isinstance(place, str) or (model.service and tabby.mode == "api"):
        return None
    return tabby.dir / place / name


def _files(model: ModelConfig, tabby: Tabby, present: frozenset[Path]) -> Iterator[str]:
    folder, draft = source(tabby), draft_folder(model)
    if model.service and tabby.model_dir not in present:
        return  # its unit may see more of the disk than we do
    if tabby.dir / MAIN not in present and not model.service:
        yield f"{tabby.dir} is no TabbyAPI checkout: there is no {MAIN} in it"
    if folder not in present:
        yield f"the folder {folder} does not exist"
    if folder / "config.json" not in present:
        yield f"the folder {folder} holds no model: there is no config.json in it"
    if draft is not None and draft not in present:
        yield f"the folder {draft} of its draft model does not exist"


def _method(tabby: Tabby, facts: ModelFacts | None, present: frozenset[Path]) -> Iterator[str]:
    """Nothing is said of a checkout that can't be seen: a unit may run it from elsewhere."""
    if facts is None:
        return
    method = _quantised(facts)
    if method in FOREIGN:
        yield f"TabbyAPI can't load {method.upper()}: give the model to another engine"
    if tabby.dir / MAIN not in present:
        return
    if method in NEEDS_EXL2 and tabby.dir / EXL2_BACKEND not in present:
        yield words.no_exl2(method)
    if method == "exl3" and tabby.dir / EXL3_BACKEND not in present:
        yield "this TabbyAPI is too old for EXL3: update its checkout"


def _quantised(facts: ModelFacts) -> str:
    """`exl2`, `awq`...; a type of plain weights (`bfloat16`) is none of the names looked for."""
    if facts.format != "safetensors":
        return facts.format
    return (facts.quantisation or "").lower().split(" ", 1)[0]


def _cache(tabby: Tabby, facts: ModelFacts | None) -> Iterator[str]:
    """TabbyAPI takes any `cache_mode` by its API: one that it does not know becomes FP16, and is reported as given."""
    mode = tabby.cache_mode or tabby.options.get("cache_mode")
    if mode is not None and settings.mode_bits(str(mode)) is None:
        yield f"cache_mode {mode} is not known: give {MODES}"
    if mode is not None and settings.is_pair(str(mode)) and facts is not None and facts.format == "exl2":
        yield f"cache_mode {mode} is not known for EXL2: give FP16, Q8, Q6 or Q4"
    size = tabby.options.get("cache_size")
    if size is not None and (not isinstance(size, int) or size <= 0 or size % settings.PAGE):
        yield f"cache_size {size} is not a multiple of {settings.PAGE}"
