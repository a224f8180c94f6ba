"""Which paths are relayed, as what, and to where at the engine: one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.core.model import Kind
from roundhouse.dialects.openai import Operation

if TYPE_CHECKING:
    from roundhouse.runtime.life import Runnable


@dataclass(frozen=True, slots=True)
class Route:
    """One relayed path: what it asks for, and the path it has at the engine."""

    operation: Operation
    upstream_path: str
    kinds: frozenset[Kind] = frozenset(Kind)
    needs: str = ""

    def fits(self, runnable: Runnable, kind: Kind) -> bool:
        """Whether a model of that kind can answer; engines of others ('openai') are asked whatever we believe."""
        return kind in self.kinds or runnable.engine.name == "openai"


API, PATH = "roundhouse.api", "roundhouse.path"
"""Keys of a translated request's scope: its API as keys name it, and the path that its client used."""

_CHAT = frozenset({Kind.CHAT})
_RERANK = frozenset({Kind.RERANK})
_EMBEDDING = frozenset({Kind.EMBEDDING})

ROUTES: dict[str, Route] = {
    "/v1/chat/completions": Route(Operation.CHAT, "/v1/chat/completions", _CHAT, "it needs a chat model"),
    "/v1/completions": Route(Operation.COMPLETION, "/v1/completions", _CHAT, "it needs a chat model"),
    "/v1/embeddings": Route(Operation.EMBEDDING, "/v1/embeddings", _EMBEDDING, "it needs an embedding model"),
    "/v1/rerank": Route(Operation.RERANK, "/v1/rerank", _RERANK, "it needs a rerank model"),
    "/v1/reranking": Route(Operation.RERANK, "/v1/rerank", _RERANK, "it needs a rerank model"),
    "/completion": Route(Operation.NATIVE, "/completion", _CHAT, "it needs a chat model"),
    "/infill": Route(Operation.NATIVE, "/infill", _CHAT, "it needs a chat model"),
    "/apply-template": Route(Operation.OTHER, "/apply-template", _CHAT, "it needs a chat model"),
    "/tokenize": Route(Operation.OTHER, "/tokenize"),
    "/detokenize": Route(Operation.OTHER, "/detokenize"),
}
ROUTES |= {path.removeprefix("/v1"): route for path, route in ROUTES.items() if path.startswith("/v1/")}
TRANSLATED: dict[str, Route] = ROUTES | {
    "/v1/messages/count_tokens": Route(Operation.OTHER, "/v1/messages/count_tokens", _CHAT, "it needs a chat model")
}
"""What requests of other APIs become."""
