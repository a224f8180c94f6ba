"""Models that are on this machine already: in folders, and where other programs keep theirs. Reads headers only.

Sources of the layouts: huggingface_hub (`models--OWNER--NAME/snapshots/COMMIT/FILE`, `refs/main` holds a commit), LM
Studio (`PUBLISHER/NAME/FILE.gguf`), Ollama (see `config.importers.ollama`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from roundhouse.config import discover
from roundhouse.config.importers import ollama
from roundhouse.config.importers.folder import body_of
from roundhouse.errors import ConfigError
from roundhouse.formats.errors import FormatError
from roundhouse.runtime.files import facts_of, lacking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from roundhouse.ports import ModelFacts

HUGGINGFACE: Final = "huggingface"
LMSTUDIO: Final = "lmstudio"
OLLAMA: Final = "ollama"
FOLDER: Final = "folder"
_REPOSITORY: Final = "models--"


@dataclass(frozen=True, slots=True)
class Stored:
    """A model that was found.

    Attributes:
        name: what it may be called; unlike that of all others found.
        store: whose it is: huggingface, lmstudio, ollama or folder.
        body: its keys, as our configuration has them; `path` and `engine` are among them.
        facts: what its files say; None with a `problem`.
    """

    name: str
    store: str
    body: Mapping[str, Any]
    facts: ModelFacts | None = None
    problem: str | None = None

    @property
    def path(self) -> Path:
        """Of the file or folder that an engine is given."""
        return Path(self.body["path"])


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to search, and whose it is."""

    store: str
    folder: Path


def usual_places(env: Mapping[str, str]) -> tuple[Place, ...]:
    """Where the other programs keep models, by their environment variables and defaults; those that are there."""
    home = Path(env.get("HOME") or Path.home())
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    hub = env.get("HF_HUB_CACHE") or Path(env.get("HF_HOME") or cache / "huggingface") / "hub"
    places = (
        Place(HUGGINGFACE, Path(hub)),
        Place(LMSTUDIO, home / ".lmstudio/models"),
        Place(LMSTUDIO, home / ".cache/lm-studio/models"),
        Place(OLLAMA, Path(env.get("OLLAMA_MODELS") or home / ".ollama/models")),
        Place(OLLAMA, Path("/usr/share/ollama/.ollama/models")),
    )
    return tuple(place for place in places if _is_there(place.folder))


def _is_there(folder: Path) -> bool:
    """Also where this user may not look, which is then told."""
    try:
        return folder.is_dir()
    except OSError:
        return True


def place_of(folder: Path) -> Place:
    """Whose a folder is, by what it holds."""
    try:
        if ollama.is_store(folder):
            return Place(OLLAMA, folder)
        is_hub = any(one.name.startswith(_REPOSITORY) for one in folder.iterdir())
    except OSError:
        is_hub = False
    return Place(HUGGINGFACE if is_hub else FOLDER, folder)


def search(places: Iterable[Place]) -> tuple[tuple[Stored, ...], tuple[str, ...]]:
    """All models in these places, each file once; and sentences about what could not be listed."""
    found: dict[Path, Stored] = {}
    warnings: list[str] = []
    names: set[str] = set()
    for place in places:
        for name, body in _readable(place, warnings):
            real = Path(body["path"]).resolve()
            if real not in found:
                unlike = _unlike(name, names)
                names.add(unlike)
                found[real] = _look(unlike, place.store, body)
    return tuple(found.values()), tuple(warnings)


def _readable(place: Place, warnings: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        yield from _SEARCHES[place.store](place.folder, warnings)
    except OSError as error:
        warnings.append(f"{error.filename or place.folder} can't be read ({error.strerror})")


def _unlike(name: str, taken: set[str]) -> str:
    number = 2
    unlike = name
    while unlike in taken:
        unlike = f"{name}-{number}"
        number += 1
    return unlike


def _look(name: str, store: str, body: Mapping[str, Any]) -> Stored:
    try:
        return Stored(name, store, body, facts_of(Path(body["path"])))
    except FormatError as error:
        return Stored(name, store, body, problem=str(error))


def _in_folder(folder: Path, warnings: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    scan = discover.scan(folder)
    warnings += [text.removeprefix("models_dir: ") for text in scan.warnings]
    for found in scan.models:
        yield found.name, body_of(found)


def _in_hub(folder: Path, warnings: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for repository in sorted(one for one in folder.iterdir() if one.name.startswith(_REPOSITORY)):
        snapshot = _newest(repository)
        if snapshot is None:
            continue
        title = repository.name.removeprefix(_REPOSITORY).replace("--", "/", 1)
        missing = lacking(snapshot)
        if missing:
            warnings.append(f"{title} is not whole: {', '.join(missing)} missing")
            continue
        for name, body in _in_folder(snapshot, warnings):
            # A folder of safetensors goes by its commit there.
            yield title.rpartition("/")[2] if body["path"] == str(snapshot) else name, body


def _newest(repository: Path) -> Path | None:
    """The snapshot that `main` is, else the last one that was made."""
    try:
        main = repository / "snapshots" / (repository / "refs/main").read_text(encoding="ascii").strip()
        if main.is_dir():
            return main
    except (OSError, ValueError):
        pass  # another revision was asked for
    try:
        return max((repository / "snapshots").iterdir(), key=lambda place: place.stat().st_mtime, default=None)
    except OSError:
        return None


def _in_ollama(folder: Path, warnings: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        imported = ollama.read(folder)
    except ConfigError as error:
        warnings += error.message.splitlines()
        return
    warnings += imported.lost
    for name, entry in imported.models.items():
        yield name, dict(entry.body)


_SEARCHES: Final = {HUGGINGFACE: _in_hub, LMSTUDIO: _in_folder, OLLAMA: _in_ollama, FOLDER: _in_folder}
