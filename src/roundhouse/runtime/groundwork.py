"""What is laid before an engine starts: files edited, its keys read or made. Blocks; call it from a thread.

What is written where, the engine's description says (`ports.Edit`, `ports.KeyFile`); this knows files and their modes.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from roundhouse.ports import Edit, KeyFile

PRIVATE = 0o600
ORDINARY = 0o644


def edit(edits: Iterable[Edit]) -> None:
    """Changes files, each in one step, its owner and mode kept. Raises LoadFailed; a file is then as it was.

    The text that we found the first time stays beside it as `.bak`; later changes are of our own text.
    """
    for one in edits:
        try:
            _edit(one)
        except OSError as error:
            raise LoadFailed(f"{one.path} can't be changed: {_reason(error)}") from error


def _edit(one: Edit) -> None:
    old = _text(one.path)
    new = one.change(old or "")
    if new == old:
        return
    backup = one.path.with_name(one.path.name + ".bak")
    if old is not None and not backup.exists():
        _write(backup, old, one.path)
    _write(one.path, new, one.path)


def key_of(keys: KeyFile, *, make: bool) -> str | None:
    """The key in an engine's key file; with `make`, a missing file is written first, for its owner alone.

    Returns None where there is no file. Raises LoadFailed when it can't be read or holds none.
    """
    try:
        text = _text(keys.path)
        if text is None and make:
            text = keys.fresh(lambda: secrets.token_hex(16))
            _write(keys.path, text, None)
    except OSError as error:
        raise LoadFailed(
            f"the engine's keys in {keys.path} can't be used: {_reason(error)}; run Roundhouse as the user that owns "
            "the file, or set `api_key:` of the model"
        ) from error
    return None if text is None else keys.read(text)


def _text(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:  # line ends stay as they are
            return file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise LoadFailed(f"{path} is not UTF-8 text; correct it") from None


def _write(path: Path, text: str, like: Path | None) -> None:
    """Writes a file in one step: whole or not at all, whatever happens meanwhile (a full disk, an end)."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _own(part, like)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _own(part: Path, like: Path | None) -> None:
    """Mode and owner of `like`; without one it is for us alone."""
    if like is None:
        part.chmod(PRIVATE)
        return
    try:
        found = like.stat()
    except FileNotFoundError:
        part.chmod(ORDINARY)
        return
    part.chmod(found.st_mode & 0o7777)
    with suppress(PermissionError):  # only root gives files away; ours then
        os.chown(part, found.st_uid, found.st_gid)


def _reason(error: OSError) -> str:
    return (error.strerror or "it failed").lower()
