"""A folder of models, written out: what `models_dir` would find at each start, as models with keys of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roundhouse.config import discover
from roundhouse.config.importers.result import Entry, Imported
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from roundhouse.config.discover import Found


def read(path: Path) -> Imported:
    """The models below a folder. Two of one name get their folders' names before theirs. Raises ConfigError."""
    if not path.is_dir():
        raise ConfigError(f"{path}: is no folder; give the folder that holds the models")
    place = path.absolute()
    scan = discover.scan(place)
    if not scan.models:
        said = "".join(f"\n{warning}" for warning in scan.warnings)
        raise ConfigError(f"{path}: holds no GGUF file and no model folder; correct the path{said}")
    entries = {}
    for found in scan.models:
        twins = [other for other in scan.models if other.name == found.name]
        name = found.name if len(twins) == 1 else _distinct(found, place)
        advice = () if len(twins) == 1 else (f"named with its folder, because {len(twins)} are named {found.name}",)
        entries[name] = Entry(body_of(found), str(found.path.relative_to(place)), advice=advice)
    lost = tuple(warning.removeprefix("models_dir: ") for warning in scan.warnings)
    return Imported(path, "folder", entries, lost=lost)


def body_of(found: Found) -> dict[str, Any]:
    """A model's keys."""
    body: dict[str, Any] = {"engine": found.engine, "path": str(found.path)}
    return body | ({"mmproj": str(found.mmproj)} if found.mmproj else {})


def _distinct(found: Found, place: Path) -> str:
    inside = found.path.relative_to(place)
    return str(inside.with_suffix("") if discover.is_gguf(found.path) else inside)
