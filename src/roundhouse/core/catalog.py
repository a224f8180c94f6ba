"""Names: which model a client means, and what to say when there is none.

Knows ids, aliases and any-of models (spec A5, A6); knows nothing of what is loaded but what it is told.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roundhouse.errors import BadRequest, UnknownModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.config.models import ModelConfig


@dataclass(frozen=True, slots=True)
class Match:
    """A name found: `asked` is what the client said, `model` what will answer, `virtual` the any-of entry in between.

    `defaults` are request parameters of the alias, which fill in what the client left out.
    """

    asked: str
    model: ModelConfig
    virtual: ModelConfig | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All that it was called on the way, as asked first: a key that may use one of them may use the model."""
        return (self.asked, *((self.virtual.id,) if self.virtual is not None else ()), self.model.id)


class Catalog:
    """All names of a configuration."""

    def __init__(self, models: Mapping[str, ModelConfig]) -> None:
        self.set(models)

    def set(self, models: Mapping[str, ModelConfig]) -> None:
        """These models from now on."""
        self.models = models
        self._names: dict[str, tuple[ModelConfig, Mapping[str, Any]]] = {}
        for model in models.values():
            for alias, defaults in model.aliases.items():
                self._names[alias] = (model, defaults)
        for model in models.values():
            self._names[model.id] = (model, {})

    def __contains__(self, name: str) -> bool:
        """Whether a model or an alias has that name."""
        return name in self._names

    def find(self, name: object, is_loaded: Callable[[str], bool]) -> Match:
        """The model for the name in a request.

        Raises:
            BadRequest: no name, or not a text.
            UnknownModel: nobody has it; the closest names are in the message.
        """
        if name is None or name == "":
            raise BadRequest(f'The request names no model; put "model" in it, one of: {self._some()}.', param="model")
        if not isinstance(name, str):
            raise BadRequest('"model" must be a text.', param="model")
        found = self._names.get(name)
        if found is None:
            raise UnknownModel(self.unknown(name), param="model")
        model, defaults = found
        if model.any_of:
            chosen = next((m for m in model.any_of if is_loaded(self._names[m][0].id)), model.any_of[0])
            return Match(name, self._names[chosen][0], virtual=model, defaults=defaults)
        return Match(name, model, defaults=defaults)

    def split_path(self, path: str) -> tuple[str, str] | None:
        """Splits 'org/model/rest' into the longest known name and '/rest' (spec A5); None if no name fits."""
        parts = path.split("/")
        for end in range(len(parts), 0, -1):
            name = "/".join(parts[:end])
            if name in self._names:
                return name, "/".join(["", *parts[end:]])
        return None

    def unknown(self, name: str) -> str:
        """What to say of a name that nobody has."""
        told = [known for known, (model, _) in self._names.items() if not model.unlisted]
        close = difflib.get_close_matches(name, told, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else f"there are: {self._some()}."
        return f"Model '{name[:200]}' does not exist; {hint}"

    def _some(self) -> str:
        listed = [model.id for model in self.models.values() if not model.unlisted]
        return ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")
