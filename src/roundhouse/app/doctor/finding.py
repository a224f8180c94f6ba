"""What the doctor says: one finding each, in words that stand alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        severity: `error` is what keeps something from working, `warning` what will hurt, `note` what to know.
        about: the model, unit, device, file or address concerned; '' for the whole.
        what: what is so, in a sentence.
        remedy: a command or a setting; '' where nothing is to be done.
        check: which check says it; filled in by whoever runs the checks.
    """

    severity: Severity
    about: str
    what: str
    remedy: str = ""
    check: str = ""


def ok(about: str, what: str) -> Finding:
    """All is well."""
    return Finding(Severity.OK, about, what)


def note(about: str, what: str, remedy: str = "") -> Finding:
    """Good to know."""
    return Finding(Severity.NOTE, about, what, remedy)


def warning(about: str, what: str, remedy: str) -> Finding:
    """It will hurt."""
    return Finding(Severity.WARNING, about, what, remedy)


def error(about: str, what: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Severity.ERROR, about, what, remedy)
