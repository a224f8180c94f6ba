"""Whose request it is, for the scheduler: the user behind a shared key, and the conversation or agent (spec D4, D5).

Pure functions over headers, parsed body fields and the peer's address. What they give is a hint for fairness and for
lingering, never a permission: anybody may name any session. Names are short; long ones are hashed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

_USER: Final = b"x-openwebui-user-id"
_SESSION_HEADERS: Final = (
    b"x-openwebui-chat-id",  # Open WebUI with ENABLE_FORWARD_USER_INFO_HEADERS
    b"x-openwebui-chat",  # the same by a connection's own header: {{CHAT_ID}}
    b"x-session-id",  # opencode, and whoever wants to say it
    b"x-session-affinity",  # opencode, pi
    b"x-opencode-session",
    b"x-claude-code-session-id",
    b"x-qwen-code-session-id",
    b"session_id",  # Codex; newer ones write it with a hyphen
    b"session-id",
    b"conversation_id",
)
"""Names in lower case, as ASGI has them; the first that is there and not empty counts."""

_LONGEST: Final = 40
"""Characters that are kept as they are: a UUID has 36."""


def user_of(headers: Mapping[bytes, bytes]) -> str:
    """Who of those that share a key, '' if unknown. Only to be asked where the caller's headers are believed."""
    value = headers.get(_USER, b"")
    return _short(value.decode("latin-1").strip()) if _says(value) else ""


def session_of(headers: Mapping[bytes, bytes], fields: Mapping[str, Any], peer: str) -> str:
    """Names the conversation or agent that a request belongs to; never empty.

    A header that names it goes first, then OpenAI's `prompt_cache_key` (Codex and opencode send the conversation's id),
    `metadata.session_id`, and Claude Code's session in `metadata.user_id`. Without all of these it is the program
    (User-Agent) of somebody (`safety_identifier`, its older name `user`, else the address): two agents on one machine
    differ, two connections of one agent do not.

    Args:
        headers: names in lower case.
        fields: the parsed body.
        peer: the client's address without its port; '' where there is none (a Unix socket).
    """
    for name in _SESSION_HEADERS:
        if name in headers and _says(value := headers[name]):
            return _short(value.decode("latin-1").strip())
    key = fields.get("prompt_cache_key")
    if key and isinstance(key, str):
        return _short(key)
    metadata = fields.get("metadata")
    if metadata and isinstance(metadata, dict) and (session := _in_metadata(metadata)):
        return _short(session)
    somebody = fields.get("safety_identifier") or fields.get("user")
    if not (somebody and isinstance(somebody, str)):
        somebody = headers.get(b"x-forwarded-for", b"").decode("latin-1") or peer
    return _hashed(somebody, headers.get(b"user-agent", b""))


def _says(value: bytes) -> bool:
    """Whether a header says anything: an Open WebUI that does not know a placeholder sends it unfilled."""
    return bool(value) and not value.startswith(b"{{") and not value.isspace()


def _in_metadata(metadata: Mapping[str, Any]) -> str:
    session = metadata.get("session_id")
    if session and isinstance(session, str):
        return session
    user = metadata.get("user_id")
    return _claude_codes(user) if isinstance(user, str) else ""


def _claude_codes(user: str) -> str:
    """Claude Code's `metadata.user_id`: `user_…_account_…_session_UUID`, newer ones have the parts as JSON."""
    if user.startswith("{"):
        try:
            found = orjson.loads(user)
        except orjson.JSONDecodeError:
            return ""
        session = found.get("session_id")
        return session if isinstance(session, str) else ""
    return user.rpartition("_session_")[2] if "_session_" in user else ""


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST and name.isprintable() else _hashed(name)


def _hashed(name: str, more: bytes = b"") -> str:
    """16 hexadecimal digits."""
    return blake2b(b"%b\0%b" % (name.encode("utf-8", "replace"), more), digest_size=8).hexdigest()
