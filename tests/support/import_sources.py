"""Other programs' files for import tests: copies of the captures with their paths moved, and an Ollama store."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roundhouse.config.importers.choose import read
from roundhouse.config.importers.writing import text
from roundhouse.config.load import parse

if TYPE_CHECKING:
    from roundhouse.config.importers.result import Imported
    from roundhouse.config.models import Config

CAPTURES = Path(__file__).resolve().parent.parent / "captures" / "import"
USER = "/home/user"


def original(folder: Path) -> Path:
    """The original's script, start scripts and TabbyAPI below `folder`, which is its user's home; gives the script."""
    shutil.copytree(CAPTURES / "original", folder, dirs_exist_ok=True)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace(USER, str(folder)))
    return folder / "model_router_blackwell.py"


def capture(name: str, folder: Path) -> Path:
    """A folder of captures below `folder`; gives the copy."""
    return Path(shutil.copytree(CAPTURES / name, folder / name))


def imported(source: Path, env: dict[str, str] | None = None, **options: Any) -> tuple[Imported, Config]:
    """What was read, and what our own loader makes of the text."""
    found = read(source, None, env or {}, **options)
    known = {**dict.fromkeys(found.variables, "unset"), **(env or {})}
    return found, parse(text(found), source.parent / "roundhouse.yaml", known)


class Store:
    """An Ollama store being filled."""

    def __init__(self, folder: Path, manifests: str = "manifests") -> None:
        self.folder, self.manifests = folder, manifests
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / manifests).mkdir(exist_ok=True)

    def blob(self, data: bytes | dict[str, Any]) -> str:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        digest = hashlib.sha256(raw).hexdigest()
        (self.folder / "blobs" / f"sha256-{digest}").write_bytes(raw)
        return f"sha256:{digest}"

    def path(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "-")

    def layer(self, kind: str, data: bytes | dict[str, Any]) -> dict[str, Any]:
        return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": self.blob(data), "size": 1}

    def add(self, name: str, *layers: dict[str, Any], **more: Any) -> Path:
        """A manifest at `host/namespace/model/tag`."""
        path = self.folder / self.manifests / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schemaVersion": 2, "layers": list(layers), **more}))
        return path
