"""Anything that serves the OpenAI API: a `url:` run by others, or a `command:` of the user's.

Knows how paths are put together for base URLs, which differ in what they leave to the client, and nothing of what runs
behind them.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from roundhouse.engines import visible
from roundhouse.errors import ConfigError
from roundhouse.ports import Command, Endpoint, Engine, Served

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Progress
    from roundhouse.ports import Build, ModelFacts, Place

SLOTS: Final = 64
"""Concurrent requests where nothing says how many: enough not to be the limit, few enough for file descriptors."""

OUT_OF_MEMORY: Final = re.compile(
    r"out of memory|OutOfMemory|OUT_OF_MEMORY|Cannot allocate memory|std::bad_alloc|failed to allocate", re.IGNORECASE
)

UP_BUT_NO_SUCH_PATH: Final = frozenset({401, 403, 404, 405})


class OpenAICompatible(Engine):
    """`engine: openai`."""

    name = "openai"
    binaries: tuple[str, ...] = ()
    module: str | None = None
    default_port = 8000
    stop_grace = 10.0
    streams_to_abort = False
    facts_paths: tuple[str, ...] = ()

    def command(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None = None
    ) -> Command:
        """The user's command, split as a shell would but run without one; no words for a `url:`."""
        known = {"PORT": str(port), "ID": model.id}
        words = (*words_of(model.command or "", model, port), *(_expanded(word, known) for word in model.args))
        theirs = {name: _expanded(value, known) for name, value in model.env.items()}
        return Command(words, {**visible.environment(place, model.env, numbers=True), **theirs})

    def ready_paths(self, model: ModelConfig) -> tuple[str, ...]:
        """`health:`, else the one path that every such server has: its list of models."""
        path = model.health or "/v1/models"
        return (_below(urlsplit(model.url or "").path.rstrip("/"), path),)

    def is_ready(self, status: int, body: bytes) -> bool:
        """2xx; and a server that refuses this path or does not know it is up all the same. 5xx is not yet."""
        return 200 <= status < 300 or status in UP_BUT_NO_SUCH_PATH

    def served(self, replies: Mapping[str, bytes]) -> Served:
        """The API does not tell; `slots:` does."""
        return Served(slots=SLOTS)

    def progress(self, line: str) -> Progress | None:
        """Nothing is known of its output."""
        return None

    def failure(self, lines: Sequence[str]) -> str:
        """Its last line that says something."""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def out_of_memory(self, lines: Sequence[str]) -> bool:
        """By words that engines of all kinds have for it, CUDA's and the C library's among them."""
        return any(OUT_OF_MEMORY.search(line) for line in lines)

    def footprint(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset()
    ) -> int | None:
        """Nothing can be said; `memory:` does."""
        return None


def words_of(line: str, model: ModelConfig, port: int) -> tuple[str, ...]:
    """A command line of the user's, split as a shell would but for none to run it, `${PORT}` and `${ID}` filled in."""
    return tuple(_expanded(word, {"PORT": str(port), "ID": model.id}) for word in shlex.split(line))


def endpoint_of(url: str, api_key: str | None = None) -> Endpoint:
    """Where a base URL points. Its path is kept as `base`; see `path_for`.

    Raises:
        ConfigError: no http or https URL with a host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} can't be used: give a base URL such as https://example.org/v1")
    tls = parts.scheme == "https"
    headers = ((b"authorization", b"Bearer " + api_key.encode()),) if api_key else ()
    return Endpoint(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"), headers)


def path_for(endpoint: Endpoint, path: str) -> str:
    """The path to ask `endpoint` for, to be put after its `base`, where ours is `path` ('/v1/chat/completions').

    A base URL with a path is complete in the sense of the OpenAI clients: it stands for our '/v1', whether it ends so
    ('https://example.org/v1') or not ('https://example.org/api/paas/v4'). One without a path gets '/v1' from us.
    """
    return _below(endpoint.base, path)


def passed(endpoint: Endpoint, path: bytes) -> tuple[Endpoint, bytes]:
    """Where a path of the engine's own is, whatever API it belongs to, and the path to ask there.

    A base URL that ends in '/v1' has the engine's root before that; any other path of one stands for our '/v1'.
    """
    if endpoint.base.endswith("/v1"):
        return replace(endpoint, base=endpoint.base.removesuffix("/v1")), path
    return endpoint, path.removeprefix(b"/v1") if endpoint.base and path.startswith(b"/v1/") else path


def _below(base: str, path: str) -> str:
    return path.removeprefix("/v1") if base and path.startswith("/v1/") else path


def _expanded(text: str, known: Mapping[str, str]) -> str:
    """`${PORT}` and `${ID}`; other variables were expanded when the configuration was read."""
    return re.sub(r"\$\{(PORT|ID)\}", lambda found: known[found[1]], text)
