"""What TabbyAPI's refusals and errors mean for a person: one line, without a full stop. Knows no protocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from roundhouse.engines.tabbyapi import settings

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig

OUT_OF_MEMORY: Final = re.compile(
    r"Insufficient VRAM|out of memory|OutOfMemory|CUDA_ERROR_OUT_OF_MEMORY|cudaMalloc", re.IGNORECASE
)
NO_EXL2: Final = re.compile(r"quantized with '(?P<method>\w+)' require the exllamav2 backend")

PINNED: Final = (
    "versions from 14 July 2026 on load no EXL2: take a checkout of commit 79126f9 or older, or an EXL3 model"
)


def load_error(message: str) -> str:
    """An error event of a load stream, or the exception that ended a load at the start."""
    if OUT_OF_MEMORY.search(message):
        return (
            f"not enough GPU memory ({message.strip().rstrip('.')}): give it a smaller `max_seq_len`, "
            "or a `cache_mode` of Q8 or Q4"
        )
    if found := NO_EXL2.search(message):
        return no_exl2(found["method"])
    if found := re.search(r"Unknown architecture (?P<name>\S+)", message):
        return f"this TabbyAPI does not know the architecture '{found['name']}': a newer one may"
    if found := re.search(r"No such file or directory: '(?P<path>[^']+)'", message):
        return f"the file {found['path']} does not exist"
    return f"TabbyAPI says: {message.strip().rstrip('.')}"


def no_exl2(method: str) -> str:
    """An EXL2 or GPTQ model on a version without exllamav2."""
    return f"this TabbyAPI can't load {method.upper()}: {PINNED}"


def is_loaded_already(message: str) -> bool:
    """The answer of December 2025 to a load of what is in: `Model "X" is already loaded! Aborting.`."""
    return "is already loaded" in message


def refused(model: ModelConfig, status: int, message: str) -> str:
    """A load that was refused before it began."""
    tabby = settings.tabby_of(model)
    if status in {401, 403}:
        return refused_key(model, message)
    if status == 400 and "model path" in message:
        return (
            f"TabbyAPI finds no folder {tabby.model_name}: `model_dir` in {tabby.dir / 'config.yml'} has to be "
            f"{tabby.model_dir}"
        )
    return f"TabbyAPI refuses the load with status {status}: {message or 'no reason given'}"


def refused_key(model: ModelConfig, message: str) -> str:
    """401: the key in the file is not the one the process has, or there was none."""
    return (
        f"TabbyAPI refuses our key ({message or 'no reason given'}): it has to run in {settings.tabby_of(model).dir}, "
        "whose api_tokens.yml we read, or `api_key` has to be its admin key"
    )


def no_admin(model: ModelConfig, permission: object) -> str:
    """The key is good, but not for loading models."""
    known = f"is only good for '{permission}'" if permission else "is of no known kind"
    return (
        f"the key for TabbyAPI {known}: loading takes the admin_key of "
        f"{settings.tabby_of(model).dir / 'api_tokens.yml'}"
    )
