"""Where engines keep what they compile, so that the next start finds it: variables that they get besides ours.

SGLang and vLLM compile kernels and note which are the quickest: minutes of a first start, seconds of each later one
that finds them. They keep that below the home folder, which a service's user may lack; and what PyTorch's own compiler
makes lies in /tmp, where it is gone after a boot.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

IN_TMP = {"TORCHINDUCTOR_CACHE_DIR": "torchinductor"}
"""Folders below the cache, by variable: `torch/_inductor/runtime/cache_dir_utils.py` takes /tmp for it."""
IN_HOME = {
    "TRITON_CACHE_DIR": "triton",
    "SGLANG_CACHE_DIR": "sglang",
    "SGLANG_DG_CACHE_DIR": "deep_gemm",
    "VLLM_CACHE_ROOT": "vllm",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "CUDA_CACHE_PATH": "nv",
}
"""The same for those who take a folder in the home folder (Triton, SGLang 0.5.23, vLLM 0.32.0, FlashInfer, CUDA)."""


def variables(environ: Mapping[str, str], state_dir: Path) -> dict[str, str]:
    """What to add to the environment that engines inherit; nothing that is set there already.

    Looks whether the folder for caches ($XDG_CACHE_HOME, else ~/.cache) can be written; else it is `state_dir`/cache.
    """
    cache, folders = _usual(environ), dict(IN_TMP)
    added: dict[str, str] = {}
    if not _writable(cache):
        cache = state_dir / "cache"
        folders |= IN_HOME
        added["XDG_CACHE_HOME"] = str(cache)
    return added | {name: str(cache / folder) for name, folder in folders.items() if name not in environ}


def _usual(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or os.path.expanduser("~"), ".cache"))  # noqa: PTH111 -- Path.expanduser raises for a user without a home


def _writable(folder: Path) -> bool:
    """Whether it is there and can be written, or can be made."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    return folder.is_absolute() and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
