"""What can go wrong while the demo gets ready, in words for the person at the terminal."""

from __future__ import annotations

from roundhouse.errors import RouterError


class DemoError(RouterError):
    """The demo can't go on. The message says what happened and what to do."""

    code = "demo_failed"


class Mismatch(DemoError):
    """Something fetched, or made from it, is not what this release was tested with."""

    code = "demo_checksum_mismatch"
