"""The text of our configuration file for what was imported: the same for the same source, with its origins as comments.

Writes a small, plain part of YAML 1.2. Every text is read back as it was: `$` is doubled, what looks like a number, a
truth value or null is quoted.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from roundhouse.config.importers.result import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from roundhouse.config.importers.result import Entry, Imported, Kind

WIDTH = 116
"""Characters of a line before a list or mapping is written with one item a line."""

SOURCES: dict[Kind, str] = {
    "original": "the multi-backend router's models",
    "llama-swap": "a llama-swap configuration",
    "ollama": "Ollama's store",
    "folder": "a folder of models",
}

_PLAIN = re.compile(r"(?:--?(?=[A-Za-z])|~/)?[A-Za-z_/][A-Za-z0-9_./@+=-]*|[0-9]+(?:ms|[smh]|[KMGT]iB)")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that some reader of YAML takes for something else than text."""
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def text(imported: Imported) -> str:
    """The whole file."""
    return "\n".join(line.rstrip() for line in _file(imported)) + "\n"


def fragment(models: Mapping[str, Entry]) -> str:
    """Models as they stand below `models:`."""
    return "\n".join(line for name, entry in models.items() for line in _model(name, entry)) + "\n"


def _file(imported: Imported) -> Iterator[str]:
    yield from _comment(f"Imported from {SOURCES[imported.kind]}: {imported.source}", "")
    yield from _comment("Look it over; `roundhouse check` says how each model will be run.", "")
    yield from _told(imported.lost, imported.advice, "")
    if imported.variables:
        yield from _comment(f"needs these environment variables: {', '.join(imported.variables)}", "")
    for key, value in imported.top.items():
        yield ""
        yield from _comment(imported.remarks.get(key, ""), "")
        yield from pair(key, value, "")
    yield ""
    if not imported.models:
        yield "models: {}"
        return
    yield "models:"
    for name, entry in imported.models.items():
        yield from _model(name, entry)


def _model(name: str, entry: Entry) -> Iterator[str]:
    yield f"  {scalar(name, escape=False)}:"
    yield from _comment(f"from {entry.origin}", "    ")
    yield from _told(entry.lost, entry.advice, "    ")
    for key, value in entry.body.items():
        yield from pair(key, value, "    ")


def _told(lost: Sequence[str], advice: Sequence[str], indent: str) -> Iterator[str]:
    for sentence in lost:
        yield from _comment(f"not carried over: {sentence}", indent)
    for sentence in advice:
        yield from _comment(f"advice: {sentence}", indent)


def _comment(sentence: str, indent: str) -> Iterator[str]:
    clean = "".join(char if char.isprintable() else "?" for char in sentence)
    # Long words are paths and flags: cut in two they could not be copied.
    yield from textwrap.wrap(
        clean,
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def pair(key: str, value: Any, indent: str) -> Iterator[str]:  # noqa: ANN401 - any value of a YAML file
    """The lines of a key and its value: one, or more where that is too long."""
    line = f"{indent}{scalar(key, escape=False)}: {flow(value)}"
    if len(line) <= WIDTH or not value or not isinstance(value, dict | list | tuple):
        yield line
        return
    yield f"{indent}{scalar(key, escape=False)}:"
    if isinstance(value, dict):
        for inner, what in value.items():
            yield from pair(inner, what, indent + "  ")
        return
    for item in value:
        yield f"{indent}  - {flow(item)}"


def flow(value: Any) -> str:  # noqa: ANN401 - any value of a YAML file
    """A value on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{scalar(key, escape=False)}: {flow(what)}' for key, what in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value)


def scalar(value: object, *, escape: bool = True) -> str:
    """One scalar. Keys of mappings are not searched for variables when the file is read: no `escape` for them.

    Raises ValueError for what YAML has no words for.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} is no value of a configuration file")  # noqa: TRY004 - a fault of data
    return _text(value if isinstance(value, Template) or not escape else value.replace("$", "$$"))


def _number(value: float) -> str:
    written = repr(value)
    if not re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", written):
        raise ValueError(f"{written} is no figure of a configuration file")
    # YAML 1.1 readers want a dot before an exponent; ours does not mind one.
    return written if "." in written or "e" not in written else written.replace("e", ".0e")


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return f'"{"".join(map(_char, value))}"'


def _char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
