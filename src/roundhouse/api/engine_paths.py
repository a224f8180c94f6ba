"""Paths that are passed to engines: which model they name, which of them only look, and which are for operators.

Pure: what a client sent in, values out.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from roundhouse.errors import BadRequest, UnknownModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.core.catalog import Catalog

PREFIX: Final = "/upstream/"
QUERIED: Final = ("/props", "/slots", "/lora-adapters")
"""GET paths of llama-server whose model llama-server's router, and so we, find in `?model=`."""

_PAGES: Final = (
    *(".js", ".mjs", ".css", ".html", ".map", ".json", ".webmanifest", ".txt", ".wasm"),
    *(".ico", ".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp", ".woff", ".woff2", ".ttf"),
)
"""Ends of paths that a page is drawn from."""
_PROBES: Final = frozenset(
    {
        *("", "/", "/health", "/healthz", "/ready", "/ping", "/metrics", "/version", "/docs", "/openapi.json"),
        *("/props", "/slots", "/lora-adapters", "/v1/models", "/models", "/v1/model", "/load", "/is_sleeping"),
        *("/v1/streams", "/tools"),  # llama-server's page asks these whenever it is opened or shown again
    }
)
"""Paths that ask how an engine is, or for its page."""
_NOT_COMPUTED: Final = frozenset(
    {"/tokenize", "/detokenize", "/apply-template", "/v1/messages/count_tokens", "/v1/chat/completions/input_tokens"}
)
"""POST paths that take no slot of llama-server's."""
_OPERATORS: Final = (
    # llama.cpp: other users' conversations, adapters for everybody, files and programs, requests to any address.
    *("/slots", "/lora-adapters", "/props", "/models/", "/v1/stream", "/tools", "/cors-proxy"),
    # TabbyAPI: what is loaded, downloads; our key there is its admin key.
    *("/v1/model/", "/v1/download", "/v1/lora", "/v1/template", "/v1/sampling/override", "/v1/auth"),
    # SGLang, which tells its keys among its settings, and does most of these for a GET as well.
    *("/server_info", "/get_server_info", "/get_internal_state", "/set_internal_state", "/set_trace_level"),
    *("/release_memory_occupation", "/resume_memory_occupation", "/pause_generation", "/continue_generation"),
    *("/update_weight", "/init_weight", "/destroy_weight", "/send_weight", "/get_weight", "/weights_checker"),
    *("/flush_cache", "/abort", "/configure_logging", "/freeze_gc", "/slow_down", "/clear_hicache", "/hicache"),
    *("/start_profile", "/stop_profile", "/start_expert", "/stop_expert", "/dump", "/load_lora", "/unload_lora"),
    # vLLM and its relatives.
    *("/sleep", "/wake", "/pause", "/resume", "/release_kv_cache", "/reset_", "/collective_rpc", "/scale_elastic"),
    *("/v1/load_lora", "/v1/unload_lora", "/v1/load_model", "/v1/unload_model", "/terminate", "/shutdown"),
    # KoboldCpp, Ollama, LM Studio, another Roundhouse.
    *("/api/admin", "/api/delete", "/api/create", "/api/copy", "/api/pull", "/api/push", "/api/blobs"),
    *("/api/v1/models/", "/api/v1/requests", "/api/v1/reload", "/api/v1/config", "/api/v1/keys", "/api/v1/events"),
)
"""Beginnings of paths by which an engine is changed, or secrets and other users' prompts are seen."""
_READABLE: Final = frozenset(
    {"/props", "/lora-adapters", "/tools", "/v1/lora", "/v1/loras", "/v1/template", "/v1/templates"}
)
"""Of those, what anybody who may use the model may GET."""


class Place(NamedTuple):
    """Where a request goes: the model's name as asked for, the path at its engine, decoded and as it is to be sent."""

    name: str
    path: str
    raw: bytes


def place_of(raw_path: bytes, catalog: Catalog) -> Place:
    """Takes `/upstream/MODEL/PATH` apart: the longest name that fits, its slashes encoded or not (spec A5).

    The path at the engine stays encoded as the client had it; it is empty where the client gave none.

    Raises:
        UnknownModel: no name fits.
        BadRequest: it climbs up; a server in front of an engine might follow.
    """
    whole = _decoded(raw_path)
    found = catalog.split_path(whole.removeprefix(PREFIX))
    if found is None:
        first = whole.removeprefix(PREFIX).partition("/")[0]
        raise UnknownModel(f"{catalog.unknown(first)} The path is {PREFIX}MODEL/PATH.", param="model")
    name, path = found
    rest = _after(raw_path, len((PREFIX + name).encode("utf-8", "surrogateescape")))
    if rest[:3].lower() == b"%2f":
        rest = b"/" + rest[3:]
    if ".." in unquote(path).replace("\\", "/").split("/"):
        raise BadRequest("A path that is passed to an engine can't have '..' in it.")
    return Place(name, path, rest)


def queried(raw_path: bytes, query: bytes) -> Place:
    """The model of a path among `QUERIED`.

    Raises:
        BadRequest: the query names none.
    """
    path = _decoded(raw_path)
    name = parameter(query, "model")
    if not name:
        raise BadRequest(f"The request names no model; ask {path}?model=MODEL.", param="model")
    return Place(name, path, raw_path)


def parameter(query: bytes, name: str) -> str:
    """The last value of a query's parameter; '' where there is none."""
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get(name, "")


def without(query: bytes, *names: bytes) -> bytes:
    """A query without some parameters, otherwise as it was."""
    return b"&".join(part for part in query.split(b"&") if part.partition(b"=")[0] not in names)


def wants_load(headers: Mapping[bytes, bytes], query: bytes) -> bool:
    """Whether a look may load the model: `?autoload=1` (llama-server's router has it so), or X-Roundhouse-Autoload."""
    said = parameter(query, "autoload") or headers.get(b"x-roundhouse-autoload", b"").decode("latin-1")
    return said.lower() in {"1", "true", "yes", "on"}


def changes(method: str) -> bool:
    """Whether HTTP expects a method to change something."""
    return method not in {"GET", "HEAD", "OPTIONS"}


def is_look(method: str, path: str) -> bool:
    """Whether a request only looks at an engine, which shall load nothing (spec A7)."""
    return method in {"HEAD", "OPTIONS"} or (method == "GET" and (path in _PROBES or path.lower().endswith(_PAGES)))


def is_computed(method: str, path: str) -> bool:
    """Whether the engine may compute something in a slot for it."""
    return changes(method) and path not in _NOT_COMPUTED


def is_operators(method: str, path: str) -> bool:
    """Whether a request is for operators alone, however its path is written."""
    forms = {form.lower() for form in (path, _normal(path), _normal(unquote(path)))}
    if not any(form.startswith(_OPERATORS) for form in forms):
        return False
    return changes(method) or not forms <= _READABLE


def _normal(path: str) -> str:
    """Without empty and dot segments, as a server in front of an engine may take it."""
    return posixpath.normpath("/" + path.lstrip("/")) if path else path


def _decoded(raw: bytes) -> str:
    """As text; what is no UTF-8 stays countable."""
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")


def _after(raw: bytes, count: int) -> bytes:
    """What follows the first `count` bytes that a percent-encoded text stands for."""
    at = 0
    for _ in range(count):
        at += 3 if raw[at : at + 1] == b"%" and len(unquote_to_bytes(raw[at : at + 3])) == 1 else 1
    return raw[at:]
