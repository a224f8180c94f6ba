"""A GGUF header's metadata by type: a key of another type than asked for counts as absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.formats.gguf_header import Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.formats.gguf_header import Value


class Keys:
    """The keys that begin with `prefix`, named without it."""

    def __init__(self, values: Mapping[str, Value | Skipped], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def below(self, prefix: str) -> Keys:
        """The same with another prefix."""
        return Keys(self._values, prefix)

    def has(self, key: str) -> bool:
        """Whether it is there, of whatever type."""
        return self._prefix + key in self._values

    def text(self, key: str) -> str:
        """A text, else ''."""
        value = self._values.get(self._prefix + key)
        return value if isinstance(value, str) else ""

    def truth(self, key: str, *, default: bool) -> bool:
        """Yes or no."""
        value = self._values.get(self._prefix + key)
        return value if isinstance(value, bool) else default

    def number(self, key: str, default: int = 0) -> int:
        """A whole number that can be meant: not negative, below 2 to the 40th."""
        many = self.numbers(key)
        return many[0] if many else default

    def numbers(self, key: str) -> list[int]:
        """The elements of an array, or the one number, as far as they can be meant."""
        value = self._values.get(self._prefix + key)
        many = value if isinstance(value, list) else [value]
        return [int(item) for item in many if isinstance(item, int) and 0 <= item < 2**40]

    def is_array(self, key: str) -> bool:
        """Whether it is there as an array."""
        return isinstance(self._values.get(self._prefix + key), list | Skipped)

    def length(self, key: str) -> int:
        """Elements of an array; 0 for anything else."""
        value = self._values.get(self._prefix + key)
        if isinstance(value, Skipped):
            return value.count
        return len(value) if isinstance(value, list) else 0
