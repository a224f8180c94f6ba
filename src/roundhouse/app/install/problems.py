"""What keeps an installation from being done, each with its remedy."""

from __future__ import annotations

from roundhouse.errors import RouterError


class Forbidden(RouterError):
    """It would need other rights, or would harm what is there; nothing was changed."""

    code = "forbidden"


class NotDone(RouterError):
    """It was begun and did not work."""
