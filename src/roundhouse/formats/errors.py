"""The one way in which reading a model file fails."""

from __future__ import annotations


class FormatError(ValueError):
    """A file is not what it should be: not that format, cut short, or absurd. The message is a phrase for people."""
