"""What can be had of a repository: its quantisations, each with all files that it needs. Pure: a list of files in.

A GGUF model is one file or its parts, and a projector where there is one. A repository without GGUF is one model: its
safetensors with what describes them; its other formats (PyTorch, ONNX, Mistral's consolidated files) are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roundhouse.app.hub.problems import NoSuchOffer
from roundhouse.config import discover

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HOSTS: Final = ("https://huggingface.co/", "huggingface.co/", "https://hf.co/", "hf.co/")
WHOLE: Final = "safetensors"
"""The name of the one offer of a repository without GGUF."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_QUANTISATION = re.compile(
    r"(?:^|[-_.])((?:UD-)?(?:I?Q\d\w*|TQ\d_\d|BF16|F16|FP16|F32|MXFP4\w*|NVFP4))$", re.IGNORECASE
)
_BESIDE = (".json", ".model", ".txt", ".jinja", ".tiktoken")
"""What describes safetensors: settings, tokenizer, template."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file: its path in the repository, bytes, and its hashes as hexadecimal digits ('' where the hub has none)."""

    path: str
    size: int
    sha256: str = ""
    git: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing to pull.

    Attributes:
        name: the quantisation, else the file's own name.
        model: what the model will be called once it is here.
        files: all that it needs, in the order in which they should come to stand on the disk.
        lead: the file of which an engine is told, '' for a folder.
        missing: parts that the repository lacks.
    """

    name: str
    model: str
    files: tuple[HubFile, ...]
    lead: str = ""
    missing: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def parse(text: str) -> tuple[str, str]:
    """`OWNER/NAME[:QUANT|FILE]` as repository and choice. Raises NoSuchOffer."""
    host = next((host for host in HOSTS if text.startswith(host)), "")
    repository, _, choice = text.removeprefix(host).rstrip("/").partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise NoSuchOffer(
            f"{text!r} names no repository; write OWNER/NAME or OWNER/NAME:QUANT, as in me/Qwen3-8B-GGUF:Q4_K_M."
        )
    return repository, choice.strip()


def offers(repository: str, files: Sequence[HubFile]) -> tuple[Offer, ...]:
    """All that can be had, the smallest first."""
    by_path = {file.path: file for file in files if _is_safe(file.path)}
    found = list(_ggufs(by_path)) or list(_folder(repository, by_path))
    return tuple(sorted(found, key=lambda offer: (offer.size, offer.name)))


def choose(repository: str, found: Sequence[Offer], choice: str) -> Offer:
    """The offer that `choice` names, or the only one. Raises NoSuchOffer, which tells whether there are others."""
    if not found:
        raise NoSuchOffer(f"{repository} holds no GGUF and no safetensors, so there is nothing to run.")
    if not choice:
        if len(found) > 1:
            raise NoSuchOffer(f"{repository} has {len(found)} to choose from: say which, {repository}:{found[0].name}.")
        return _whole(repository, found[0])
    wanted = choice.lower()
    fitting = [offer for offer in found if wanted == offer.name.lower()] or [
        offer for offer in found if any(wanted in {file.path.lower(), _name(file.path).lower()} for file in offer.files)
    ]
    if len(fitting) == 1:
        return _whole(repository, fitting[0])
    if fitting:
        names = ", ".join(_name(offer.lead) for offer in fitting)
        raise NoSuchOffer(f"{repository} has {len(fitting)} named {choice}: give the file, one of {names}.")
    raise NoSuchOffer(f"{repository} has no {choice}.")


def _whole(repository: str, offer: Offer) -> Offer:
    if offer.missing:
        raise NoSuchOffer(f"{repository} lacks {', '.join(offer.missing)}, so {offer.name} can't be pulled whole.")
    return offer


def _ggufs(files: Mapping[str, HubFile]) -> Iterator[Offer]:
    paths = [Path(path) for path in files]
    projector = next((files[str(path)] for path in discover.projectors_among(paths)), None)
    for model, parts in discover.models_among(paths):
        there = [files[str(part)] for part in parts if str(part) in files]
        missing = tuple(part.name for part in parts if str(part) not in files)
        # The first part comes last to its place: it is what makes the others a model.
        ordered = (*([projector] if projector else ()), *reversed(there))
        yield Offer(_quantisation(model, parts[0]), model, ordered, str(parts[0]), missing)


def _quantisation(model: str, lead: Path) -> str:
    """By the file's name, else by its folder's."""
    found = _QUANTISATION.search(model) or _QUANTISATION.search(lead.parent.name)
    return found[1].upper() if found else model


def _folder(repository: str, files: Mapping[str, HubFile]) -> Iterator[Offer]:
    """Of the top folder alone; config.json comes last to its place, as it is what makes the others a model."""
    top = {path: file for path, file in files.items() if "/" not in path}
    weights = [f for p, f in top.items() if p.endswith(".safetensors") and not p.startswith("consolidated")]
    beside = [f for p, f in top.items() if p.endswith(_BESIDE) and p != "config.json"]
    if weights and "config.json" in top:
        yield Offer(WHOLE, _name(repository), (*beside, *weights, top["config.json"]))


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_safe(path: str) -> bool:
    """A name from outside becomes a path here: it may not lead anywhere else."""
    name = _name(path)
    return bool(name) and not name.startswith(".") and all(char.isprintable() for char in name) and "\\" not in name
