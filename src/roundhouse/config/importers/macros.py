"""llama-swap's macros: `${name}` put in, a model's own before the file's, later ones before earlier ones.

`${PORT}` and `${env.NAME}` stay variables, in our spelling, so a secret in the environment is not copied into a file.
Semantics: mostlygeek/llama-swap, `internal/config/load.go` and `macros.go`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roundhouse.config.importers.result import PORT, Template, template

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST = 65536
"""Characters that a value may grow to."""

_MACRO = re.compile(r"\$\{([a-zA-Z0-9_-]+)\}")
_VARIABLE = re.compile(r"\$\{env\.([a-zA-Z_][a-zA-Z0-9_]*)\}")
_OURS = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LEFT = re.compile(r"(\$\{(?:PORT|env\.[a-zA-Z_][a-zA-Z0-9_]*)\})")


class UnknownMacroError(ValueError):
    """A macro is not set, or grows without bound; the message says which."""


@dataclass(frozen=True, slots=True)
class Macros:
    """The macros that hold for one model, in the order in which they are set."""

    values: Mapping[str, Any]

    def put(self, value: Any) -> Any:  # noqa: ANN401 - any YAML value
        """The value with its macros put in: text becomes a Template. Raises UnknownMacroError."""
        if isinstance(value, dict):
            return {str(_plain(self.put(key))): self.put(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.put(item) for item in value]
        if not isinstance(value, str):
            return value
        alone = _MACRO.fullmatch(value)
        if alone and not isinstance(self.values.get(alone[1], ""), str):
            return self.values[alone[1]]
        return ours(self.filled(value))

    def filled(self, text: str) -> str:
        """With macros put in, but for `${PORT}`, `${PID}` and `${env.NAME}`. Raises UnknownMacroError."""
        for name, value in reversed(list(self.values.items())):
            text = text.replace(f"${{{name}}}", spelled(value))
            if len(text) > MOST:
                raise UnknownMacroError(f"${{{name}}} makes it longer than {MOST} characters; simplify the macros")
        for match in _MACRO.finditer(text):
            if match[1] not in {"PORT", "PID"}:
                raise UnknownMacroError(f"there is no macro {match[0]}; add it to `macros`, or correct its name")
        return text


def ours(text: str) -> Template:
    """Text in our spelling: `${PORT}` as it is, `${env.NAME}` as `${NAME}`, every other dollar sign for itself."""
    parts = []
    for part in _LEFT.split(text):
        variable = _VARIABLE.fullmatch(part)
        parts.append(PORT if part == PORT else Template(f"${{{variable[1]}}}") if variable else part)
    return template(*parts)


def variables(text: str) -> list[str]:
    """Names of the environment variables in text of llama-swap's."""
    return _VARIABLE.findall(text)


def mentioned(text: Template) -> set[str]:
    """Names of the environment variables in text of ours."""
    return set(_OURS.findall(text.replace("$$", ""))) - {"PORT", "ID"}


def spelled(value: Any) -> str:  # noqa: ANN401 - any YAML value
    """A macro's value as text, as Go prints it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _plain(text: str) -> str:
    """Keys of mappings are not searched for variables, so nothing in them is escaped."""
    return str(text).replace("$$", "$")
