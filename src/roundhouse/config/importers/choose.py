"""Which importer a source asks for, by what it is and what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.config.importers import folder, llama_swap, ollama, original, original_json
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.config.importers.result import Imported, Kind


def kind_of(source: Path) -> Kind:
    """What a source is. Raises ConfigError if nothing tells."""
    if source.is_dir():
        return "ollama" if ollama.is_store(source) else "folder"
    kinds: Mapping[str, Kind] = {
        ".py": "original",
        ".json": "original",
        ".yaml": "llama-swap",
        ".yml": "llama-swap",
    }
    if not source.exists():
        raise ConfigError(f"there is nothing at {source}; correct the path")
    if kind := kinds.get(source.suffix.lower()):
        return kind
    raise ConfigError(f"{source}: can't tell what this is; say it with --from original, llama-swap, ollama or folder")


def read(source: Path, kind: Kind | None, env: Mapping[str, str], *, inline: bool = False) -> Imported:
    """What a source says. `env` is looked at for HOME, and for API keys that llama-swap keeps there.

    `inline` turns the original's simple start scripts into `path` and `args`. Raises ConfigError.
    """
    home = Path(env.get("HOME") or Path.home())
    match kind or kind_of(source):
        case "original" if source.suffix.lower() == ".json":
            return original_json.read(source, home)
        case "original":
            return original.read(source, home, inline=inline)
        case "llama-swap":
            return llama_swap.read(source, env)
        case "ollama":
            return ollama.read(source)
        case "folder":
            return folder.read(source)
