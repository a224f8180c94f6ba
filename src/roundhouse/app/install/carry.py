"""Writes an installation's files and takes them away again: nothing of others' is lost, nothing of ours is left.

What was written is listed, with checksums, in a manifest beside the configuration. Knows files only; no systemd.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.app.install.facts import is_ours
from roundhouse.app.install.problems import Forbidden, NotDone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from roundhouse.app.install.plan import File

SAVED = ".before-roundhouse"
"""Ending of a file of others that made way for ours (--force)."""


class State(StrEnum):
    """How a file on disk compares with the one to be written."""

    NEW = "new"
    SAME = "unchanged"
    OLD = "replaced"
    CHANGED = "changed by hand"
    FOREIGN = "not ours"


@dataclass(slots=True)
class Manifest:
    """What an installation has written.

    Attributes:
        files: checksum (SHA-256, hexadecimal) by path.
        saved: files of others that made way, by path, and where they are now.
        lingering: whether `loginctl enable-linger` was done for it.
    """

    files: dict[str, str] = field(default_factory=dict)
    saved: dict[str, str] = field(default_factory=dict)
    lingering: bool = False


def manifest_path(folder: Path, name: str) -> Path:
    """Where the manifest of the service `name` is; `folder` is that of configurations."""
    return folder / "roundhouse" / f"{name}.installed.json"


def read_manifest(path: Path) -> Manifest | None:
    """The manifest, None if there is none. Raises NotDone when it can't be read."""
    try:
        data = json.loads(path.read_text("utf-8"))
        return Manifest(dict(data["files"]), dict(data["saved"]), bool(data["lingering"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotDone(f"{path} can't be read ({error}); without it nobody knows what was installed.") from None


def compare(files: Iterable[File], manifest: Manifest) -> dict[File, State]:
    """How each file to be written compares with what is there."""
    return {file: _compare(file, manifest) for file in files}


def _compare(file: File, manifest: Manifest) -> State:
    if not os.path.lexists(file.path):  # or we may not look there: this is not root, and a dry run
        return State.NEW
    there = _checksum(file.path)
    if there == _sum(file.text):
        return State.SAME
    if not is_ours(file.path):
        return State.FOREIGN
    known = manifest.files.get(str(file.path))
    return State.CHANGED if known is not None and known != there else State.OLD


def refuse(states: Mapping[File, State], edit: str) -> None:
    """Raises Forbidden if files that are not ours, or that somebody changed, would be lost. `edit` is the remedy."""
    wrong = {file.path: state for file, state in states.items() if state in {State.FOREIGN, State.CHANGED}}
    if wrong:
        listed = "\n".join(f"  {path}: {state}" for path, state in wrong.items())
        raise Forbidden(
            f"These files are there already and nothing was written:\n{listed}\n{edit} "
            f"--force writes them anew; files of others are kept as *{SAVED} until `roundhouse uninstall`."
        )


def write(states: Mapping[File, State], manifest: Manifest, at: Path) -> list[Path]:
    """Writes what differs and deletes what an earlier installation wrote and this one does not need.

    The manifest is written first: whatever happens, `uninstall` knows what may be there. Returns what was deleted.
    Raises NotDone with the reason.
    """
    wanted = {str(file.path): _sum(file.text) for file in states}
    obsolete = {path: known for path, known in manifest.files.items() if path not in wanted}
    manifest.files |= wanted
    try:
        save(manifest, at)
        for file, state in states.items():
            if state is State.SAME:
                continue
            if state is State.FOREIGN:
                kept = f"{file.path}{SAVED}"
                file.path.replace(kept)
                manifest.saved[str(file.path)] = kept
                save(manifest, at)
            file.path.parent.mkdir(parents=True, exist_ok=True)
            _put(file.path, file.text)
        gone = _delete(obsolete, manifest)[0]
        save(manifest, at)
    except OSError as error:
        raise NotDone(f"{error.filename or at} can't be written: {error.strerror}.") from None
    return gone


def remove(manifest: Manifest, at: Path) -> tuple[list[Path], list[Path]]:
    """Deletes what was installed, and puts back what had made way.

    Returns what is gone, and what stays because it was changed by hand. Raises NotDone with the reason.
    """
    try:
        gone, kept = _delete(dict(manifest.files), manifest)
        for path, saved in manifest.saved.items():
            if not Path(path).exists() and Path(saved).exists():
                Path(saved).replace(path)
        at.unlink(missing_ok=True)
        _drop_empty(at.parent)
    except OSError as error:
        raise NotDone(f"{error.filename} can't be removed: {error.strerror}.") from None
    return gone, kept


def _delete(files: Mapping[str, str], manifest: Manifest) -> tuple[list[Path], list[Path]]:
    gone: list[Path] = []
    kept: list[Path] = []
    for name, known in files.items():
        path = Path(name)
        if path.exists() and _checksum(path) != known:
            kept.append(path)
        elif path.exists():
            path.unlink()
            gone.append(path)
            if path.parent.name.endswith(".d"):
                _drop_empty(path.parent)
        manifest.files.pop(name, None)
    return gone, kept


def _drop_empty(folder: Path) -> None:
    """Removes a folder that holds nothing; rules.d and the like belong to others and hold something, or stay."""
    if folder.name != "rules.d" and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def save(manifest: Manifest, at: Path) -> None:
    """Writes the manifest."""
    at.parent.mkdir(parents=True, exist_ok=True)
    _put(at, json.dumps(asdict(manifest), indent=1) + "\n")


def _put(path: Path, text: str) -> None:
    """Replaces a file as a whole, readable for everyone: its old or its new text is there at any time."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, "utf-8")
    fresh.chmod(0o644)
    os.replace(fresh, path)  # noqa: PTH105 -- Path.replace would do the same; a link at `path` is replaced, not followed


def _checksum(path: Path) -> str | None:
    """None for what is no file that can be read, such as a link that leads nowhere."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
