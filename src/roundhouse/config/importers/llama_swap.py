"""A llama-swap configuration: its models, peers, selectors and settings, each told where it has no like here.

Meanings: mostlygeek/llama-swap, `docs/config.md`, `config.example.yaml` and `internal/config`. A command that
is plainly a llama-server becomes `path` and `args`, so that memory is known before the first load; others stay as they
are.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from roundhouse.config.importers import files, macros
from roundhouse.config.importers.llama_swap_model import ModelReader, filtered
from roundhouse.config.importers.macros import Macros, UnknownMacroError
from roundhouse.config.importers.result import Entry, Imported, Template

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from roundhouse.config.importers.files import Mapped

NOT_CARRIED: Final[Mapping[str, str]] = {
    "startPort": "engines get free ports",
    "logLevel": "`roundhouse serve --log-level` says it",
    "logTimeFormat": "log lines have one form",
    "logToStdout": "engines' output is shown by `roundhouse logs`",
    "logRequests": "requests are always logged",
    "metricsMaxInMemory": "`/metrics` and the history need no bound",
    "captureBuffer": "requests are not captured",
    "includeAliasesInList": "aliases are told with their model",
    "unloadTimeout": "engines are given the time they need to end",
    "performance": "measuring needs no setting",
    "store": "history is kept in `state_dir`",
    "ui": "it has no like here",
    "upstream": "engines are not reached past the router",
    "matrix": "there are no sets to write: models run together as memory allows",
    "profiles": "names are not rewritten at run time; `any_of` or `aliases` may do",
    "tailcat": "it has no like here",
    "security": "see `listen`, `keys` and `tls`",
}
READ: Final = frozenset(
    "models macros apiKeys healthCheckTimeout globalTTL sendLoadingState hooks peers groups routing selectors".split()  # noqa: SIM905 - a line each would hide what they are
)
TOTAL: Final = 1800
"""Seconds that a load may take here by default."""


def read(path: Path, env: Mapping[str, str]) -> Imported:
    """What a llama-swap file says. `env` is only looked at for API keys, which are hashed. Raises ConfigError."""
    return _Reader(files.read_yaml(path), env).imported()


@dataclass(slots=True)
class _Reader:
    file: Mapped
    env: Mapping[str, str]
    entries: dict[str, Entry] = field(default_factory=dict)
    top: dict[str, Any] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    secret: bool = False

    def imported(self) -> Imported:
        if not any(self.file.mapping(section) for section in ("models", "peers")):
            raise self.file.wrong("has no models; give a llama-swap configuration", "models")
        self.models()
        self.peers()
        self.selectors()
        self.settings()
        self.keys()
        self.lost += [f"{key}: {NOT_CARRIED[key]}" for key in self.file.data if key in NOT_CARRIED]
        self.lost += [f"{key} is not known here" for key in self.file.data if key not in {*NOT_CARRIED, *READ}]
        return Imported(
            self.file.path,
            "llama-swap",
            self.entries,
            self.top,
            self.remarks,
            tuple(self.lost),
            tuple(self.advice),
            tuple(sorted(self.needed())),
            self.secret,
        )

    def needed(self) -> set[str]:
        """Environment variables that what is written mentions."""
        found: set[str] = set()
        pending: list[Any] = [entry.body for entry in self.entries.values()]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                pending += value.values()
            elif isinstance(value, list | tuple):
                pending += value
            elif isinstance(value, Template):
                found |= macros.mentioned(value)
        return found

    # --- models ---

    def models(self) -> None:
        readers = {name: self.reader(name) for name in self.file.mapping("models")}
        binary = self.binary(readers)
        for name, reader in readers.items():
            self.entries[name] = reader.entry(binary)
            self.secret = self.secret or reader.secret
        self.preloaded()
        self.grouped()

    def reader(self, name: str) -> ModelReader:
        body = self.file.mapping("models", name)
        own = self.file.mapping("models", name, "macros")
        values = {"MODEL_ID": name, **self.file.mapping("macros"), **own}
        try:
            return ModelReader(self.file, name, body, Macros(values))
        except UnknownMacroError as error:
            raise self.file.wrong(str(error), "models", name) from None

    def binary(self, readers: Mapping[str, ModelReader]) -> str | None:
        """The llama-server that most models use: `engines.llamacpp.binary` is one for all. None: the one on PATH."""
        programs = Counter(reader.binary for reader in readers.values() if reader.server is not None)
        if not programs:
            return None
        binary = programs.most_common(1)[0][0]
        if binary:
            self.top["engines"] = {"llamacpp": {"binary": binary}}
        return binary

    def preloaded(self) -> None:
        hooks = self.file.mapping("hooks", "on_startup")
        for name in _list(hooks.get("preload")):
            if real := self.real(str(name).strip()):
                self.more(real, {"preload": True})
            else:
                self.lost.append(f"hooks.on_startup.preload: there is no model {name!r}")

    def grouped(self) -> None:
        legacy = self.file.mapping("groups")
        where = ("groups",) if legacy else ("routing", "router", "settings", "groups")
        for name, group in self.file.mapping(*where).items():
            body = self.file.mapping(*where, name)
            if group and body.get("persistent") is True:
                for member in _list(body.get("members")):
                    if real := self.real(str(member)):
                        self.more(real, {"pinned": True})
            pinned = body.get("persistent") is True
            said = "its members are pinned" if pinned else "models run together as memory allows"
            self.lost.append(f"{'.'.join(where)}.{name}: {said}; there are no groups to write")
        routing = self.file.mapping("routing", "router", "settings")
        if "matrix" in routing:
            self.lost.append(f"routing.router.settings.matrix: {NOT_CARRIED['matrix']}")
        for name, priority in self.file.mapping("routing", "scheduler", "settings", "fifo", "priority").items():
            if (real := self.real(name)) and isinstance(priority, int):
                self.more(real, {"priority": priority})

    def more(self, name: str, keys: Mapping[str, Any]) -> None:
        entry = self.entries[name]
        self.entries[name] = Entry({**entry.body, **keys}, entry.origin, entry.lost, entry.advice)

    def real(self, name: str) -> str | None:
        """The id that a name means."""
        if name in self.entries:
            return name
        return next((other for other, entry in self.entries.items() if name in entry.body.get("aliases", ())), None)

    # --- peers and selectors ---

    def peers(self) -> None:
        bare = Counter(str(model) for name in self.file.mapping("peers") for model in self.offered(name))
        for name in self.file.mapping("peers"):
            for model in self.offered(name):
                keys = self.peer(name, str(model))
                # llama-swap takes the bare name as well where only one peer has it and no model of ours hides it.
                if bare[str(model)] == 1 and self.real(str(model)) is None:
                    keys["aliases"] = [str(model)]
                lost = [
                    f"{key} of the peer has no like here"
                    for key in self.file.mapping("peers", name)
                    if key not in {"proxy", "apiKey", "models", "filters"}
                ]
                at = self.file.where("peers", name)
                self.entries[f"{name}/{model}"] = Entry(keys, _short(at), tuple(lost))

    def offered(self, name: str) -> list[Any]:
        return _list(self.file.mapping("peers", name).get("models"))

    def peer(self, name: str, model: str) -> dict[str, Any]:
        body = self.file.mapping("peers", name)
        put = self.put(("peers", name))
        proxy = put(body.get("proxy"))
        if not isinstance(proxy, str) or not proxy.startswith(("http://", "https://")):
            raise self.file.wrong("has no proxy that is an http address; correct or remove the peer", "peers", name)
        # llama-swap appends the whole request path, /v1 and all; ours stands for /v1 itself.
        keys: dict[str, Any] = {"engine": "openai", "url": Template(f"{proxy.rstrip('/')}/v1"), "served_name": model}
        if key := put(body.get("apiKey")):
            keys["api_key"] = key
            self.secret = self.secret or not macros.variables(str(body["apiKey"]))
        filters = self.file.mapping("peers", name, "filters")
        return keys | filtered(put(filters))

    def put(self, where: tuple[str, ...]) -> Callable[[Any], Any]:
        known = Macros(self.file.mapping("macros"))

        def one(value: Any) -> Any:  # noqa: ANN401 - any YAML value
            try:
                return known.put(value)
            except UnknownMacroError as error:
                raise self.file.wrong(str(error), *where) from None

        return one

    def selectors(self) -> None:
        for name in self.file.mapping("selectors"):
            body = self.file.mapping("selectors", name)
            targets = [self.real(str(target)) or str(target) for target in _list(body.get("targets"))]
            strategy = body.get("strategy")
            if strategy == "pin":
                targets = targets[:1]
            lost = ["balance: one model is used until it is not loaded"] if strategy == "balance" else []
            lost += ["metadata"] if body.get("metadata") else []
            keys: dict[str, Any] = {key: body[key] for key in ("name", "description", "unlisted") if body.get(key)}
            at = self.file.where("selectors", name)
            self.entries[name] = Entry({**keys, "any_of": targets}, _short(at), tuple(lost))

    # --- settings ---

    def settings(self) -> None:
        ttl = self.file.data.get("globalTTL", 0)
        defaults: dict[str, Any] = {"ttl": f"{ttl}s" if isinstance(ttl, int) and ttl > 0 else "never"}
        self.remarks["defaults"] = "as in llama-swap; `ttl: auto` unloads a model when holding it costs more"
        limit = self.file.data.get("healthCheckTimeout")
        if isinstance(limit, int) and limit > TOTAL:
            defaults["load_timeout"] = {"total": f"{limit}s"}
        elif limit is not None:
            self.lost.append(
                f"healthCheckTimeout {limit}: a load that moves may go on for {TOTAL // 60} minutes "
                "(`defaults.load_timeout`)"
            )
        self.top["defaults"] = defaults
        loading = self.file.data.get("sendLoadingState")
        if loading is False:
            self.top["status"] = {"channel": "off"}
        elif loading is True:
            self.advice.append("to have loading status in the reasoning as before: status: {channel: reasoning}")

    def keys(self) -> None:
        found = []
        for number, key in enumerate(_list(self.file.data.get("apiKeys")), 1):
            text = self.key(key, number)
            if text is not None:
                digest = hashlib.sha256(text.encode()).hexdigest()
                found.append({"name": f"llama-swap-{number}", "hash": f"sha256:{digest}", "manage": True})
        if found:
            self.secret = True
            self.top["keys"] = found
            self.remarks["keys"] = "every key may load and unload, as in llama-swap; narrow what each may do"

    def key(self, written: Any, number: int) -> str | None:  # noqa: ANN401 - any YAML value
        """An API key itself, looked up in the environment where it is kept there."""
        text = str(written)
        for variable in macros.variables(text):
            value = self.env.get(variable)
            if not value:
                self.lost.append(
                    f"apiKeys: key {number} is in the environment variable {variable}, which is not set here; "
                    "set it and import again"
                )
                return None
            text = text.replace(f"${{env.{variable}}}", value)
        return text


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - any YAML value
    return value if isinstance(value, list) else []


def _short(where: str) -> str:
    return os.path.basename(where)  # noqa: PTH119 - a path with its line behind it
