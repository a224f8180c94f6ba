"""Ollama's store: one model for each manifest, its weights used where they lie, under the name it has there.

Layout (ollama/ollama, `manifest` and `types/model`): `manifests/HOST/NAMESPACE/MODEL/TAG` are JSON files (newer ones
lie in `manifests-v2`, as links) whose layers name files `blobs/sha256-HEX`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from roundhouse.config.importers import files
from roundhouse.config.importers.result import Entry, Imported
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HOST: Final = "registry.ollama.ai"
NAMESPACE: Final = "library"
LAYER: Final = "application/vnd.ollama.image."
RUNNERS: Final = ("ollama", "llamacpp", "")
"""Which of a list's manifests llama.cpp can run, best first."""

FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "temperature": "--temp",
        "top_k": "--top-k",
        "top_p": "--top-p",
        "min_p": "--min-p",
        "typical_p": "--typical",
        "seed": "--seed",
        "repeat_last_n": "--repeat-last-n",
        "repeat_penalty": "--repeat-penalty",
        "presence_penalty": "--presence-penalty",
        "frequency_penalty": "--frequency-penalty",
        "num_predict": "--predict",
        "num_batch": "--batch-size",
        "num_gpu": "--gpu-layers",
        "num_thread": "--threads",
    }
)
"""Parameters that llama-server has as defaults which a request may change, as Ollama's are."""

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


def is_store(folder: Path) -> bool:
    """Whether a folder is a store, or holds one as `models`."""
    return _store(folder) is not None


def read(path: Path) -> Imported:
    """The models of a store. Those that llama.cpp can't run are told, and left out. Raises ConfigError."""
    store = _store(path)
    if store is None:
        raise ConfigError(f"{path}: has no manifests and blobs; give Ollama's folder, such as ~/.ollama/models")
    reader = _Store(store.absolute())
    for name, manifest in sorted(reader.manifests().items()):
        reader.add(name, manifest)
    if not reader.entries:
        raise ConfigError("\n".join([f"{path}: holds no model that can be carried over", *reader.lost]))
    advice = (
        "weights are used where they lie: `ollama rm` takes them from here as well",
        "models that only Ollama's own engine knows do not load in llama.cpp",
    )
    return Imported(path, "ollama", reader.entries, lost=tuple(reader.lost), advice=advice)


def _store(folder: Path) -> Path | None:
    for place in (folder, folder / "models"):
        if (place / "blobs").is_dir() and any((place / name).is_dir() for name in ("manifests", "manifests-v2")):
            return place
    return None


@dataclass(slots=True)
class _Store:
    folder: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def manifests(self) -> dict[str, Path]:
        """Manifest files by name; a name in `manifests-v2` hides the same in `manifests`."""
        found: dict[str, Path] = {}
        for root in (self.folder / "manifests-v2", self.folder / "manifests"):
            for path in sorted(root.glob("*/*/*/*")):
                if not path.is_dir() and not path.name.startswith("."):
                    found.setdefault(_name(*path.relative_to(root).parts), path)
        return found

    def add(self, name: str, path: Path) -> None:
        try:
            self.entries[name] = self.entry(name, self.chosen(files.read_json(path)), path)
        except ConfigError as error:
            self.lost.append(error.message)
        except _LeftOutError as error:
            self.lost.append(f"{name}: {error}")

    def chosen(self, manifest: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """The manifest itself, of a list the one for llama.cpp."""
        if not isinstance(manifest, dict):
            raise _LeftOutError("its manifest is no object")
        children = manifest.get("manifests")
        if not isinstance(children, list):
            return manifest
        known = {str(child.get("runner", "")).lower(): child for child in children if isinstance(child, dict)}
        child = next((known[runner] for runner in RUNNERS if runner in known), None)
        if child is None:
            raise _LeftOutError(f"it is there only for {', '.join(sorted(known))}, not for llama.cpp")
        if "layers" in child:
            return child
        referred = files.read_json(self.blob(child))
        return referred if isinstance(referred, dict) else {}

    def entry(self, name: str, manifest: Mapping[str, Any], path: Path) -> Entry:
        layers = _layers(manifest)
        weights = layers.get("model", [])
        if not weights:
            raise _LeftOutError("it has no weights here (it runs elsewhere, or is no GGUF model)")
        if len(weights) > 1:
            raise _LeftOutError(f"its weights are {len(weights)} files named by content, which llama.cpp can't join")
        lost = [text for kind, text in _NOT_CARRIED.items() if kind in layers]
        body: dict[str, Any] = {"engine": "llamacpp", "path": str(self.weights(weights[0]))}
        if projectors := layers.get("projector"):
            body["mmproj"] = str(self.blob(projectors[0]))
        for layer in layers.get("params", []):
            body |= _settings(self.json(layer), lost)
        if name.endswith(":latest"):
            body["aliases"] = [name.removesuffix(":latest")]
        return Entry(body, str(path.relative_to(self.folder)), tuple(lost))

    def weights(self, layer: Mapping[str, Any]) -> Path:
        path = self.blob(layer)
        try:
            with path.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise _LeftOutError(f"{path} can't be read ({error.strerror})") from None
        if magic != b"GGUF":
            raise _LeftOutError(f"{path} is no GGUF file")
        return path

    def blob(self, layer: Mapping[str, Any]) -> Path:
        digest = _DIGEST.fullmatch(str(layer.get("digest")))
        if digest is None:
            raise _LeftOutError("a layer has no digest")
        path = self.folder / "blobs" / f"sha256-{digest[1]}"
        if not path.is_file():
            raise _LeftOutError(f"{path} is missing; `ollama pull` fetches it")
        return path

    def json(self, layer: Mapping[str, Any]) -> dict[str, Any]:
        found = files.read_json(self.blob(layer))
        return found if isinstance(found, dict) else {}


class _LeftOutError(ValueError):
    """A model can't be carried over; the message says why."""


_NOT_CARRIED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "adapter": "an adapter (LoRA); llama-server takes it as args: [--lora, FILE]",
        "template": "the prompt template; llama.cpp uses the one in the GGUF file",
        "system": "the system prompt; clients send their own",
        "messages": "example messages; clients send their own",
    }
)


def _name(host: str, namespace: str, model: str, tag: str) -> str:
    parts = [*([host] if host != HOST else []), *([namespace] if (host, namespace) != (HOST, NAMESPACE) else []), model]
    return f"{'/'.join(parts)}:{tag}"


def _layers(manifest: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    layers = manifest.get("layers")
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and isinstance(kind := layer.get("mediaType"), str):
            found.setdefault(kind.removeprefix(LAYER), []).append(layer)
    return found


def _settings(params: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    """Ollama's parameters as our keys; what has none is added to `lost`."""
    body: dict[str, Any] = {}
    if isinstance(context := params.get("num_ctx"), int) and context > 0:
        body["context"] = context
    args = [word for pair in _arguments(params) for word in pair]
    if params.get("use_mmap") is False:
        args.append("--no-mmap")
    if args:
        body["args"] = args
    stop = params.get("stop")
    words = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    if words := [word for word in words if isinstance(word, str)]:
        body["set"] = {"stop": words}
    known = {*FLAGS, "num_ctx", "stop", "use_mmap"}
    lost += [f"the parameter {key} {json.dumps(value)}" for key, value in params.items() if key not in known]
    return body


def _arguments(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, flag in FLAGS.items():
        value = params.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield flag, f"{value:g}" if isinstance(value, float) else str(value)
