"""Models on disk (spec C1): which engine a path asks for, and every model below a folder. Opens no weights.

A GGUF file belongs to llama.cpp (split ones are one model, their first part names it); a folder is judged by its
config.json. Broken files are listed all the same: what is wrong with them is told when they are loaded.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from roundhouse.config.models import EngineName

DEEPEST = 12
"""Levels of folders that are searched."""

LARGEST_CONFIG = 16 * 1024**2
"""Bytes of config.json that are read; real ones have a few thousand."""

_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE)
_PROJECTOR = re.compile(r"(?:^|[-_.])mmproj(?:[-_.]|$)", re.IGNORECASE)
_NO_MODEL = re.compile(r"^imatrix|[-_.]imatrix$|(?:^|[-_.])draft(?:[-_.]|$)", re.IGNORECASE)
_PRECISION = re.compile(r"[-_.](?:f16|bf16|f32|q\d\w*|iq\d\w*|model)$", re.IGNORECASE)


class UndetectedError(ValueError):
    """No engine can be told from a path; the message says what was seen and what to write."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model on disk: its name, the path an engine is given, and the projector beside it."""

    name: str
    path: Path
    engine: EngineName
    mmproj: Path | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds, sorted by path; names may clash (see `by_name`)."""

    models: tuple[Found, ...]
    warnings: tuple[str, ...] = ()


def detect(path: Path) -> Found:
    """The engine for a path, and the file or folder to give it. Raises UndetectedError."""
    if is_gguf(path):
        return Found(_gguf_name(path), path, "llamacpp", projector_for(path))
    if (reason := absence(path)) is not None:
        raise UndetectedError(f"{reason}, so its engine can't be told; correct the path or write `engine:`")
    if not path.is_dir():
        raise UndetectedError(f"{path} is a file but no .gguf; give a GGUF file or a model folder, or write `engine:`")
    ggufs = [_lead(group) for group in _groups(_ggufs(path)).values()]
    if len(ggufs) == 1:
        return Found(path.name, ggufs[0], "llamacpp", projector_for(ggufs[0]))
    if ggufs:
        names = ", ".join(found.name for found in ggufs)
        raise UndetectedError(f"{path} holds several GGUF models ({names}); give the path of one")
    return Found(path.name, path, _folder_engine(path))


def scan(folder: Path) -> Scan:
    """Every model below `folder`. A folder that can't be read, and half a model, is a warning."""
    try:
        is_folder = folder.is_dir()
    except OSError:  # a folder above it is closed to this user
        return Scan((), (f"models_dir: {absence(folder)}; its models are not listed",))
    if not is_folder:
        return Scan((), (f"models_dir: there is no folder {folder}; create it or correct the path",))
    found: list[Found] = []
    warnings: list[str] = []
    for place in _walk(folder, warnings):
        found += _in_folder(place, warnings)
    return Scan(tuple(found), tuple(warnings))


def by_name(found: Iterable[Found]) -> tuple[dict[str, Found], tuple[str, ...]]:
    """Models by name, sorted, and a sentence naming both paths for each name that two of them have."""
    first: dict[str, Found] = {}
    clashes = []
    for model in found:
        known = first.setdefault(model.name, model)
        if known.path.resolve() != model.path.resolve():
            clashes.append(
                f"two models are named {model.name!r}: {known.path} and {model.path}; "
                "rename one, or give one its own name in `models`"
            )
    return dict(sorted(first.items())), tuple(clashes)


def absence(path: Path) -> str | None:
    """Why a path can't be used, None if something is there; a folder above it may be closed to this user."""
    try:
        path.stat()
    except FileNotFoundError:
        return f"there is nothing at {path}"
    except OSError as error:
        return f"{path} can't be read ({(error.strerror or 'unknown').lower()})"
    return None


def is_gguf(path: Path) -> bool:
    """By name alone."""
    return path.suffix.lower() == ".gguf"


def parts_of(path: Path) -> tuple[Path, ...]:
    """All files of a GGUF model, the first part first: the path alone if it is not split. They may be missing."""
    split = _PART.fullmatch(path.name)
    if split is None:
        return (path,)
    digits = path.suffix
    return tuple(
        path.with_name(f"{split['stem']}-{number:05d}-of-{split['parts']}{digits}")
        for number in range(1, int(split["parts"]) + 1)
    )


def models_among(files: Iterable[Path]) -> tuple[tuple[str, tuple[Path, ...]], ...]:
    """Name and files of each GGUF model among files, by their paths alone; the parts of a split one that should be."""
    folders: dict[Path, list[Path]] = {}
    for file in files:
        if _is_model(file):
            folders.setdefault(file.parent, []).append(file)
    groups = (group for folder in folders.values() for group in _groups(folder).values())
    return tuple((_gguf_name(group[0]), parts_of(group[0])) for group in groups)


def projectors_among(files: Iterable[Path]) -> tuple[Path, ...]:
    """Projectors among files, by their paths alone; the one to prefer comes first."""
    found = (file for file in files if is_gguf(file) and _PROJECTOR.search(file.stem))
    return tuple(sorted(found, key=_preference))


def projector_for(path: Path) -> Path | None:
    """The `mmproj-*` file in a GGUF model's folder that goes with it; None if there is none."""
    try:
        projectors = [file for file in sorted(path.parent.iterdir()) if is_gguf(file) and _PROJECTOR.search(file.stem)]
    except OSError:
        return None
    named = [file for file in projectors if (name := _projected(file)) and path.stem.lower().startswith(name)]
    fitting = named or [file for file in projectors if not _projected(file)]
    if not fitting and len(_groups(_ggufs(path.parent))) == 1:
        fitting = projectors
    return min(fitting, key=_preference, default=None)


def _preference(projector: Path) -> tuple[bool, str]:
    return "f16" not in projector.stem.lower(), projector.name


def _projected(file: Path) -> str:
    """What a projector's own name says about its model: '' for `mmproj-F16.gguf`."""
    name = _PROJECTOR.sub("-", file.stem).strip("-_.").lower()
    stripped = _PRECISION.sub("", f"-{name}").strip("-_.")
    return _PRECISION.sub("", f"-{stripped}").strip("-_.")


def _walk(folder: Path, warnings: list[str]) -> Iterator[Path]:
    """Folders from the top, sorted; hidden ones and model folders' insides are left out, links followed once."""
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        warnings.append(f"models_dir: {error.filename} can't be read ({error.strerror}); its models are not listed")

    for place, folders, _ in os.walk(folder, followlinks=True, onerror=unreadable):
        here = Path(place)
        real = os.path.realpath(place)
        inside = real in seen or len(here.relative_to(folder).parts) >= DEEPEST or _is_model_folder(here)
        folders[:] = [] if inside else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            yield here


def _in_folder(folder: Path, warnings: list[str]) -> list[Found]:
    found = []
    for group in _groups(_ggufs(folder)).values():
        lead = _lead(group)
        missing = [part.name for part in parts_of(lead) if absence(part) is not None]
        if missing:
            warnings.append(f"models_dir: {lead.parent / _gguf_name(lead)} is not listed: {', '.join(missing)} missing")
        else:
            found.append(Found(_gguf_name(lead), lead, "llamacpp", projector_for(lead)))
    if not found and _is_model_folder(folder):
        try:
            found.append(Found(folder.name, folder, _folder_engine(folder)))
        except UndetectedError as error:
            warnings.append(f"models_dir: {folder.name} is not listed: {error}")
    return found


def _is_model_folder(folder: Path) -> bool:
    return absence(folder / "config.json") is None


def _ggufs(folder: Path) -> list[Path]:
    """GGUF files that are models, or parts of one."""
    try:
        files = [file for file in sorted(folder.iterdir()) if is_gguf(file) and not file.is_dir()]
    except OSError:
        return []
    return [file for file in files if _is_model(file)]


def _is_model(file: Path) -> bool:
    """By its name: no projector, no draft model, no matrix of importances."""
    return is_gguf(file) and not _PROJECTOR.search(file.stem) and not _NO_MODEL.search(_gguf_name(file))


def _groups(files: Iterable[Path]) -> dict[tuple[str, str], list[Path]]:
    """Files by model: the parts of a split one together."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        split = _PART.fullmatch(file.name)
        groups.setdefault((_gguf_name(file), split["parts"] if split else ""), []).append(file)
    return groups


def _lead(group: list[Path]) -> Path:
    return parts_of(group[0])[0]


def _gguf_name(path: Path) -> str:
    split = _PART.fullmatch(path.name)
    return split["stem"] if split else path.stem


def _folder_engine(folder: Path) -> EngineName:
    """SGLang for quantised safetensors, TabbyAPI for EXL2 and EXL3, vLLM for plain ones. Raises UndetectedError."""
    quantisation = _config_of(folder).get("quantization_config")
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else None
    if isinstance(method, str) and method:
        return "tabbyapi" if method.lower() in {"exl2", "exl3"} else "sglang"
    names = _names_in(folder)
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        return "vllm"
    seen = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    raise UndetectedError(
        f"{folder} holds {seen or 'nothing'}, but no GGUF and no safetensors; write `engine:` if it is a model"
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(file.name for file in folder.iterdir())
    except OSError as error:
        raise UndetectedError(
            f"{folder} can't be read ({error.strerror}); correct its permissions or write `engine:`"
        ) from None


def _config_of(folder: Path) -> Mapping[str, Any]:
    try:
        with (folder / "config.json").open("rb") as file:
            config = json.loads(file.read(LARGEST_CONFIG))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UndetectedError(
            f"{folder / 'config.json'} can't be read ({error}); repair it or write `engine:`"
        ) from None
    return config if isinstance(config, dict) else {}
