"""What SGLang answers about itself: `/v1/models` and `/server_info`. Starts nothing and asks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from roundhouse.engines.cards import card, count, document
from roundhouse.ports import Served

if TYPE_CHECKING:
    from collections.abc import Mapping

MODELS: Final = "/v1/models"
SERVER: Final = ("/server_info", "/get_server_info")
"""The second is what older versions have; newer ones answer it too, and log that it is deprecated."""
GB: Final = 2**30
"""What its figures in GB are: free memory over `1 << 30` (`utils/common.py`)."""


def served(replies: Mapping[str, bytes]) -> Served:
    """What the replies tell. `max_running_requests` is null where nobody set it; its state says what came of that."""
    listed, server = card(replies.get(MODELS)), _server(replies)
    state = _state(server)
    slots = count(state.get("effective_max_running_requests_per_dp")) or count(server.get("max_running_requests"))
    return Served(
        slots=slots,
        context=listed.context or count(server.get("context_length")),
        name=listed.name,
        memory=_memory(state.get("memory_usage")),
    )


def folder(replies: Mapping[str, bytes]) -> str | None:
    """The model's folder, as its command line said it."""
    path = _server(replies).get("model_path")
    return path if isinstance(path, str) else None


def _server(replies: Mapping[str, bytes]) -> dict[str, Any]:
    return next((server for path in SERVER if (server := document(replies.get(path)))), {})


def _state(server: Mapping[str, Any]) -> dict[str, Any]:
    """That of the first scheduler."""
    match server.get("internal_states"):
        case [dict() as state, *_]:
            return state
        case _:
            return {}


def _memory(usage: object) -> int | None:
    """Bytes of weights, cache and graphs: one figure for graphs in older versions, one per phase in newer."""
    if not isinstance(usage, dict):
        return None
    graph = usage.get("graph")
    parts = [usage.get("weight"), usage.get("kvcache"), *(graph.values() if isinstance(graph, dict) else [graph])]
    total = sum(part for part in parts if isinstance(part, int | float) and part > 0)
    return int(total * GB) or None
