"""`${VAR}`, `${VAR:-default}` and `$$` in configuration text (spec C1). Knows no environment but the one it is given.

`${PORT}` and `${ID}` are Roundhouse's own: they stay when the file is read and are filled in when an engine is started.
Text that mentions them keeps its `$$` until then, so that one escape is undone exactly once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OURS = ("PORT", "ID")

_OURS = re.compile(r"\$\{(?:PORT|ID)\}")
_TOKEN = re.compile(r"\$\$|\$\{([^}]*)(\})?")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Fills `${PORT}` and `${ID}` into text that `from_environment` left; other text is returned as it is."""
    if not _OURS.search(text):
        return text
    return _TOKEN.sub(lambda match: "$" if match[0] == "$$" else values.get(match[1], match[0]), text)


def from_environment(text: str, env: Mapping[str, str]) -> str:
    """Fills in environment variables. An unset or empty variable takes its default.

    Raises ValueError, with the remedy, for a variable that is not set and for what is no variable.
    """
    if "$" not in text:
        return text
    filled = _fill(text, env, keep=False)
    return _fill(text, env, keep=True) if _OURS.search(filled) else filled


def _fill(text: str, env: Mapping[str, str], *, keep: bool) -> str:
    """With `keep`, escapes stay for `expand`, and dollars that come from variables are escaped for it."""

    def escaped(value: str) -> str:
        return value.replace("$", "$$") if keep else value

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$$" if keep else "$"
        return match[0] if match[2] and match[1] in OURS else _lookup(match, env, escaped)

    return _TOKEN.sub(one, text)


def _lookup(match: re.Match[str], env: Mapping[str, str], escaped: Callable[[str], str]) -> str:
    variable = _VARIABLE.fullmatch(match[1])
    if variable is None or not match[2]:
        raise ValueError(f"{match[0]!r} is no variable; write ${{NAME}}, ${{NAME:-default}}, or $$ for a dollar sign")
    value = env.get(variable[1])
    if value or (value is not None and not variable[2]):
        return escaped(value)
    if variable[2]:
        return escaped(variable[3])
    raise ValueError(f"the environment variable {variable[1]} is not set; set it, or write ${{{variable[1]}:-default}}")
