"""Reads what a model's files say about it. The formats know what the bytes mean; this opens the files.

Blocking: call it from a worker thread. Only headers are read, so it takes milliseconds even for large models.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from roundhouse.config import discover
from roundhouse.formats import exl, gguf, safetensors
from roundhouse.formats.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.ports import ModelFacts

LARGEST_CONFIG = 16 * 1024**2


def facts_of(path: Path) -> ModelFacts:
    """Facts of a GGUF file (all parts of a split one) or of a model folder.

    Raises FormatError, the file named, for what can't be used: missing, unreadable, cut short, not a model.
    """
    if path.is_dir():
        return _folder(path)
    return gguf.merge([_gguf(part) for part in discover.parts_of(path)])


def weights_of(path: Path) -> tuple[Path, ...]:
    """The files that an engine reads to load the model at this path: those of a GGUF model, or a folder's weights.

    Where a folder's index says which (there may be others, as Mistral's `consolidated.safetensors`), those. Raises
    OSError where the folder can't be read; files that a split model lacks are among the result.
    """
    if not path.is_dir():
        return discover.parts_of(path)
    files = {file.name: file for file in sorted(path.glob("*.safetensors")) if file.is_file()}
    named = _indexed(path / "model.safetensors.index.json") & files.keys()
    return tuple(file for name, file in files.items() if not named or name in named)


def lacking(folder: Path) -> tuple[str, ...]:
    """Files in which a folder's index says that tensors are, and which are not there."""
    named = _indexed(folder / "model.safetensors.index.json")
    return tuple(sorted(name for name in named if not (folder / name).exists()))


def _indexed(file: Path) -> set[str]:
    """Names of the files in which the index of a split model (Hugging Face transformers) says its tensors are."""
    try:
        with file.open("rb") as stream:
            index = json.loads(stream.read(LARGEST_CONFIG))
        return {name for name in index["weight_map"].values() if isinstance(name, str)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()


def _gguf(path: Path) -> ModelFacts:
    try:
        with path.open("rb") as file:
            return gguf.read(file, path.stat().st_size)
    except (OSError, FormatError) as error:
        raise _named(path, error) from error


def _folder(folder: Path) -> ModelFacts:
    file = folder / "config.json"
    try:
        with file.open("rb") as stream:
            config = stream.read(LARGEST_CONFIG)
        facts = exl.facts if exl.method(config) else safetensors.facts
        return facts(config, list(_headers(folder)), chat_template=_has_template(folder))
    except OSError as error:
        raise _named(file, error) from error
    except FormatError as error:
        raise _named(folder, error) from error


def _headers(folder: Path) -> Iterator[tuple[bytes, int]]:
    for file in sorted(folder.glob("*.safetensors")):
        try:
            size = file.stat().st_size
            with file.open("rb") as stream:
                header = stream.read(safetensors.header_length(stream.read(8), size))
            yield header, size
        except (OSError, FormatError) as error:
            raise _named(file, error) from error


def _has_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        with (folder / "tokenizer_config.json").open("rb") as stream:
            return b'"chat_template"' in stream.read(LARGEST_CONFIG)
    except OSError:
        return False  # without that file the engine decides


def _named(path: Path, error: OSError | FormatError) -> FormatError:
    """The error with the file's name before it, once."""
    reason = (error.strerror or "can't be read").lower() if isinstance(error, OSError) else str(error)
    return FormatError(reason if str(path) in reason else f"{path}: {reason}")
