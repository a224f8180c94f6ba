"""One model of a llama-swap configuration, in our keys. Knows nothing of the file's other sections."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from roundhouse.config.importers import serving
from roundhouse.config.importers.macros import UnknownMacroError, ours, spelled
from roundhouse.config.importers.result import Entry, Template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.config.importers.files import Mapped
    from roundhouse.config.importers.macros import Macros
    from roundhouse.config.importers.serving import Server
    from roundhouse.errors import ConfigError

LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - compared with
READ: Final = frozenset(
    [
        "cmd",
        "cmdStop",
        "proxy",
        "aliases",
        "env",
        "checkEndpoint",
        "ttl",
        "unlisted",
        "useModelName",
        "name",
        "description",
        "concurrencyLimit",
        "filters",
        "macros",
        "sendLoadingState",
    ]
)
NOT_CARRIED: Final[Mapping[str, str]] = {
    "metadata": "metadata: `/v1/models` tells what the model's file says",
    "timeouts": "timeouts: connections to engines have fixed ones, answers none",
    "capabilities": "capabilities: read from the model's file; `kind:` says it for others",
    "compat": "compat has no like here",
    "unloadTimeout": "unloadTimeout: engines are given the time they need to end",
    "healthCheckTimeout": "healthCheckTimeout: see `load_timeout`",
}


class ModelReader:
    """One model of the file.

    Attributes:
        server: what its command starts, if that is plainly a llama-server with a model file.
        binary: that llama-server; None: the one on PATH.
    """

    def __init__(self, file: Mapped, name: str, body: Mapping[str, Any], macros: Macros) -> None:
        self._file, self._name, self._body, self._macros = file, name, body, macros
        self._lost: list[str] = []
        self._advice: list[str] = []
        self.words = self._words("cmd")
        if not self.words:
            raise self.wrong("has no cmd; write the command that starts it", "cmd")
        self.server, self.binary = self._llama_server()

    @property
    def secret(self) -> bool:
        """Whether its command holds a key that is written out."""
        return bool(serving.value(tuple(word for word in self.words if "${" not in word), ("--api-key",)))

    def wrong(self, text: str, *keys: str) -> ConfigError:
        """The error to raise: `text` says what is wrong and what to do."""
        return self._file.wrong(text, "models", self._name, *keys)

    def entry(self, binary: str | None) -> Entry:
        """The model in our keys. `binary` is the llama-server that all models with a path will have."""
        keys: dict[str, Any] = {key: value for key in ("name", "description") if (value := self._put(key))}
        if self._body.get("unlisted") is True:
            keys["unlisted"] = True
        keys |= self._source(binary)
        if served := self._put("useModelName"):
            keys["served_name"] = served
        if key := serving.value(tuple(self.words), ("--api-key",)):
            # llama-swap hands on the client's own key; ours never leaves the house.
            keys["api_key"] = ours(key)
        keys |= self._environment() | self._named() | self._limits()
        self._lost += [text for key, text in NOT_CARRIED.items() if key in self._body]
        self._lost += [f"{key} is not known here" for key in self._body if key not in {*READ, *NOT_CARRIED}]
        at = os.path.basename(self._file.where("models", self._name))  # noqa: PTH119 - a path with its line behind it
        return Entry(keys, at, tuple(self._lost), tuple(self._advice))

    # --- what runs ---

    def _source(self, binary: str | None) -> dict[str, Any]:
        host, port, path = self._proxy()
        if host is not None:
            self._lost.append("cmd: what proxy names is on another machine, so it is run by others there")
            return {"engine": "openai", "url": Template(f"{self._put('proxy').rstrip('/')}/v1")}
        if path not in {"", "/"}:
            self._lost.append(f"the path {path} of proxy; engines are asked below /v1")
        keys = {"port": port} if port else {}
        if self.server is not None and self.binary == binary:
            return self._as_path(self.server) | keys | self._health("/health")
        if self.server is not None:
            self._advice.append(
                "kept as a command: `engines.llamacpp.binary` is one for all models, and this has another"
            )
        else:
            self._advice.append("add `memory:`: nothing tells how much this command needs before its first load")
        stop = self._stop()
        return {"engine": "openai", "command": command(self.words)} | keys | self._health("") | stop

    def _as_path(self, server: Server) -> dict[str, Any]:
        keys = serving.model_keys(server, self._folder(), self._name)
        if not str(server.model).startswith("/"):
            self._advice.append("its path is taken to be relative to the configuration's folder")
        if "cmdStop" in self._body:
            self._lost.append("cmdStop: llama-server is ended by signals")
        keys["path"] = ours(keys["path"])
        if "args" in keys:
            keys["args"] = [ours(word) for word in keys["args"]]
        return keys

    def _llama_server(self) -> tuple[Server | None, str | None]:
        found = serving.server(tuple(self.words))
        if found is None or found.engine != "llamacpp" or not serving.is_direct(tuple(self.words), found):
            return None, None
        asked = found.value(("--port",))
        if asked not in {None, "${PORT}"} and serving.number(asked) is None:
            return None, None
        try:
            serving.model_keys(found, self._folder(), self._name)
            return found, serving.program_of(found, self._folder(), None)
        except serving.CannotTellError:
            return None, None

    def _words(self, key: str) -> list[str]:
        """A command line's words, as llama-swap splits it: no shell; comment lines and ending backslashes left out."""
        written = self._body.get(key)
        if written is None:
            return []
        if not isinstance(written, str):
            raise self.wrong("is not text; write the command line", key)
        try:
            lines = [line.strip() for line in self._macros.filled(_uncommented(written)).split("\n")]
            text = "\n".join(line.removesuffix("\\") for line in lines if not line.startswith("#"))
            return shlex.split(text)
        except UnknownMacroError as error:
            raise self.wrong(str(error), key) from None
        except ValueError as error:
            raise self.wrong(f"is not a command line ({str(error).lower()}); check its quotes", key) from None

    def _stop(self) -> dict[str, Any]:
        words = self._words("cmdStop")
        if any("${PID}" in word for word in words):
            self._lost.append("cmdStop: ${PID} is not known here; the engine's processes are ended by signals")
            return {}
        return {"stop_command": command(words)} if words else {}

    def _proxy(self) -> tuple[str | None, int | None, str]:
        """Another machine's name if it is not this one, a fixed port, and the path."""
        written = self._put("proxy") or "http://localhost:${PORT}"
        try:
            parts = urlsplit(str(written).replace("${PORT}", "1"))
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, None
        if parts is None or parts.scheme not in {"http", "https"} or not host:
            raise self.wrong(f"{str(written)!r} is no address of a server; write http://127.0.0.1:${{PORT}}", "proxy")
        if host not in LOCAL:
            return host, None, parts.path
        if "${PORT}" in str(written):
            if not any("${PORT}" in word for word in self.words):
                fixed = self.server.port if self.server else None
                if fixed is None and not (self.server and self.server.value(("--port",)) is None):
                    raise self.wrong("cmd does not mention ${PORT}, so proxy has to name the port", "proxy")
                return None, fixed, parts.path
            return None, None, parts.path
        return None, port or (443 if parts.scheme == "https" else 80), parts.path

    def _health(self, usual: str) -> dict[str, Any]:
        path = self._put("checkEndpoint") or "/health"
        if path == "none":
            self._lost.append("checkEndpoint none: an engine is used once it answers")
            return {}
        return {} if path == usual else {"health": path}

    def _folder(self) -> str:
        return str(self._file.path.absolute().parent)

    # --- what goes with it ---

    def _environment(self) -> dict[str, Any]:
        env: dict[str, Any] = {}
        for item in _list(self._body.get("env")):
            name, equals, value = str(item).partition("=")
            if not equals or not name:
                raise self.wrong(f"{str(item)!r} sets no variable; write NAME=value", "env")
            env[name] = self._value(value, "env")
        return {"env": env} if env else {}

    def _named(self) -> dict[str, Any]:
        aliases: dict[str, Any] = {str(name): {} for name in _list(self._body.get("aliases"))}
        filters = self._body.get("filters")
        if filters is None:
            return {"aliases": list(aliases)} if aliases else {}
        if not isinstance(filters, dict):
            raise self.wrong("is not a mapping; write stripParams and setParams in it", "filters")
        keys = filtered(self._value(filters, "filters"))
        by_id = self._value(filters.get("setParamsByID") or {}, "filters")
        for name, params in by_id.items():
            if name == self._name:
                self._lost.append("filters.setParamsByID for its own id; `set` holds for every name")
            else:
                aliases[name] = params
                self._advice.append(f"what goes with the name {name} is a default, which a request may change")
        named = aliases if any(aliases.values()) else list(aliases)
        self._lost += [
            f"filters.{key} is not known here"
            for key in filters
            if key not in {"stripParams", "strip_params", "setParams", "setParamsByID"}
        ]
        return ({"aliases": named} if named else {}) | keys

    def _limits(self) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        ttl = self._body.get("ttl", -1)
        if isinstance(ttl, int) and ttl >= 0:
            keys["ttl"] = f"{ttl}s" if ttl else "never"
        limit = self._body.get("concurrencyLimit")
        if isinstance(limit, int) and limit > 0:
            if self.server is None:
                keys["slots"] = limit
            else:
                self._lost.append(
                    f"concurrencyLimit {limit}: more requests than slots wait in line; `slots` says how many"
                )
        if self._body.get("sendLoadingState") is False:
            keys["status"] = {"channel": "off"}
        return keys

    def _put(self, key: str) -> Any:  # noqa: ANN401 - any YAML value
        return self._value(self._body.get(key), key)

    def _value(self, value: Any, key: str) -> Any:  # noqa: ANN401 - any YAML value
        try:
            return self._macros.put(value)
        except UnknownMacroError as error:
            raise self.wrong(str(error), key) from None


def filtered(filters: Mapping[str, Any]) -> dict[str, Any]:
    """`filters` of a model or peer as `strip` and `set`."""
    keys: dict[str, Any] = {}
    stripped = filters.get("stripParams") or filters.get("strip_params")
    if isinstance(stripped, str):
        keys["strip"] = [name.strip() for name in stripped.split(",") if name.strip() not in {"", "model"}]
    settings = filters.get("setParams")
    if isinstance(settings, dict):
        keys["set"] = {name: value for name, value in settings.items() if name != "model"}
    return {key: value for key, value in keys.items() if value}


def command(words: list[str]) -> Template:
    """Words as one command line of ours, which is split without a shell."""
    return ours(" ".join(_quoted(spelled(word)) for word in words))


def _quoted(word: str) -> str:
    bare = word.replace("${PORT}", "")
    return word if bare != word and (not bare or shlex.quote(bare) == bare) else shlex.quote(word)


def _uncommented(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.strip().startswith("#"))


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - any YAML value
    return value if isinstance(value, list) else []
