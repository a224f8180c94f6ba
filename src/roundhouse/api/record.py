"""What one request was and how it went, for whoever keeps books: metrics, history, log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roundhouse.dialects.meter import Meter


@dataclass(slots=True)
class Record:
    """Filled while the request lives; times are seconds, `at` since the epoch. `status` 499: the client left.

    `task`: the name of the background task that it is, '' if it is none.
    `headers`: what every answer says of the caller's limits.
    `conversation`: the slot that it was put into, and what was there for it (`core.chronicle`).
    `served_by` is '' until it was granted. `session` and `user` are as the client told them, and are not for books.
    """

    id: str
    at: float
    path: str
    arrived: float
    key: str = ""
    key_class: str = "anonymous"
    asked: str = ""
    model: str = ""
    served_by: str = ""
    task: str = ""
    session: str = ""
    user: str = ""
    priority: int = 0
    stream: bool = False
    status: int = 0
    queue_s: float = 0.0
    load_s: float = 0.0
    total_s: float = 0.0
    error: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list, repr=False)
    conversation: dict[str, object] | None = None
    meter: Meter | None = field(default=None, repr=False)
