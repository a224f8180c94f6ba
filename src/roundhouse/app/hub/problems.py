"""What goes wrong with models from the hub, in words of ours: the library's hold addresses."""

from __future__ import annotations

from roundhouse.errors import RouterError


class HubProblem(RouterError):
    """The hub, the way to it or this disk failed; trying again may help."""


class HubRefusal(RouterError):
    """The hub is fine, but there is no such thing, or not for this user; or a file here is in the way."""


class NoSuchOffer(RouterError):
    """The repository has no such quantisation or file, or several fit what was said."""
