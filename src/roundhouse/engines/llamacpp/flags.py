"""Which of llama-server's flags mean the same, and what a list of arguments says about them. Knows no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Names = tuple[str, ...]

# By meaning: the names to use, best first, then those that mean the contrary or take its place. A user who gives any of
# them has decided, and ours is left out.
MODEL: Final[Names] = ("-m", "--model")
ALIAS: Final[Names] = ("--alias", "-a")
CONTEXT: Final[Names] = ("-c", "--ctx-size")
SLOTS: Final[Names] = ("-np", "--parallel")
BATCH: Final[Names] = ("-b", "--batch-size")
UBATCH: Final[Names] = ("-ub", "--ubatch-size")
FIT: Final[Names] = ("-fit", "--fit")
GPU_LAYERS: Final[Names] = ("-ngl", "--gpu-layers", "--n-gpu-layers")
DEVICES: Final[Names] = ("-dev", "--device")
SPLIT_MODE: Final[Names] = ("-sm", "--split-mode")
TENSOR_SPLIT: Final[Names] = ("-ts", "--tensor-split")
MAIN_GPU: Final[Names] = ("-mg", "--main-gpu")
NO_WARMUP: Final[Names] = ("--no-warmup", "--warmup")
EMBEDDING: Final[Names] = ("--embeddings", "--embedding")
RERANK: Final[Names] = ("--reranking", "--rerank")
MMPROJ: Final[Names] = ("--mmproj", "-mm", "--no-mmproj", "--mmproj-url", "-mmu")
JINJA: Final[Names] = ("--jinja", "--no-jinja")
CORS: Final[Names] = ("--cors-origins",)
KEY_TYPE: Final[Names] = ("-ctk", "--cache-type-k")
VALUE_TYPE: Final[Names] = ("-ctv", "--cache-type-v")
SWA_FULL: Final[Names] = ("--swa-full",)
SLOT_FOLDER: Final[Names] = ("--slot-save-path",)
CACHE_RAM: Final[Names] = ("-cram", "--cache-ram")
NO_CACHE: Final[Names] = ("--no-cache-prompt",)
UNIFIED: Final[Names] = ("-kvu", "--kv-unified")
NOT_UNIFIED: Final[Names] = ("-no-kvu", "--no-kv-unified")
REPACK: Final[Names] = ("--repack",)
NO_REPACK: Final[Names] = ("-nr", "--no-repack")
LOAD_MODE: Final[Names] = ("-lm", "--load-mode")
MMAP: Final[Names] = ("--mmap",)
NO_MMAP: Final[Names] = ("--no-mmap",)
VERBOSITY: Final[Names] = ("-lv", "--verbosity", "--log-verbosity", "-v", "--verbose", "--log-verbose", "--log-disable")


def given(args: Sequence[str], names: Names) -> bool:
    """Whether the user has said something about this."""
    return any(name in args for name in names)


def last(args: Sequence[str], yes: Names, no: Names) -> bool:
    """Whether the last of these flags that is there says yes; no where none is there."""
    return next((word in yes for word in reversed(args) if word in yes + no), False)


def value(args: Sequence[str], names: Names) -> str | None:
    """The value of the last of these flags, as llama-server takes it; None if none is there."""
    at = [index for index, word in enumerate(args[:-1]) if word in names]
    return args[at[-1] + 1] if at else None


def number(args: Sequence[str], names: Names) -> int | None:
    """The same as a number; None also where it is none (llama-server will say so)."""
    text = value(args, names)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
