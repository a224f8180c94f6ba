"""The multi-backend router that Roundhouse replaces: its MODELS dictionary, out of a Python file that is not run.

`script` and `service` stay as they are, so the same units run the same scripts on the same ports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from roundhouse.config.importers import files, literals, scripts, serving, tabby
from roundhouse.config.importers.result import Entry, Imported
from roundhouse.config.importers.serving import CannotTellError
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from roundhouse.config.importers.literals import Source
    from roundhouse.config.importers.scripts import Start
    from roundhouse.config.models import EngineName

BACKENDS: Final[Mapping[str, EngineName]] = MappingProxyType(
    {
        "sglang": "sglang",
        "tabby": "tabbyapi",
        "tabbyapi": "tabbyapi",
        "llamacpp": "llamacpp",
        "llama.cpp": "llamacpp",
        "llama-cpp": "llamacpp",
        "llama_cpp": "llamacpp",
        "vllm": "vllm",
    }
)
PORTS: Final[Mapping[EngineName, int]] = MappingProxyType(
    {"sglang": 30000, "tabbyapi": 5000, "llamacpp": 8085, "vllm": 8000}
)
"""The original's, where nothing says otherwise."""

ROUTER_PORT: Final = 8002
LOAD_TIMEOUT: Final = 180
KNOWN: Final = frozenset(
    {"backend", "script", "service", "model_name", "model_path", "port", "host", "name", "description"}
)


def read(path: Path, home: Path, *, inline: bool = False) -> Imported:
    """The models of a router's Python file. With `inline`, scripts that are simple become `path` and `args`.

    Raises ConfigError, with the line, for what is not written out or makes no sense.
    """
    source = literals.read(files.read_text(path), path)
    models = _models(source)
    reader = _Reader(source, home, ports(source), inline=inline)
    entries = {name: reader.entry(name, body) for name, body in models.items()}
    entries, engines = programs(entries, reader.programs)
    top, remarks = settings(_figure(source, "ROUTER_PORT", ("uvicorn", "run"), "port"), _timeout(source))
    lost = [
        f"line {line}: MODELS is changed by code there, which is not run" for line in source.changed.get("MODELS", ())
    ]
    return Imported(
        path, "original", entries, top | engines, remarks, tuple(lost), tuple(_listening(source)), secret=reader.secret
    )


def _models(source: Source) -> dict[str, dict[str, Any]]:
    if refused := source.refused.get("MODELS"):
        raise ConfigError(f"{source.path}:{refused.line}: MODELS: {refused}")
    found = source.names.get("MODELS")
    if found is None:
        raise ConfigError(
            f"{source.path}: has no MODELS dictionary at its top level; if it reads a config.json, import that file"
        )
    if not isinstance(found, dict):
        raise ConfigError(f'{source.where("MODELS")}: MODELS is not a dictionary; write each model as "name": {{...}}')
    for name, body in found.items():
        at = source.where("MODELS", str(name))
        if not isinstance(name, str) or not isinstance(body, dict):
            raise ConfigError(f"{at}: {name!r} is not a name with a dictionary of settings; correct it or remove it")
    return found


@dataclass(slots=True)
class _Reader:
    source: Source
    home: Path
    ports: Mapping[EngineName, int]
    inline: bool
    programs: dict[str, tuple[EngineName, str | None]] = field(default_factory=dict)
    secret: bool = False

    def entry(self, name: str, body: Mapping[str, Any]) -> Entry:
        engine = engine_of(self.text(name, body, "backend"), self.source.where("MODELS", name, "backend"), name)
        lost = [f"{key} is not known here" for key in body if key not in KNOWN]
        if body.get("host") not in {None, "localhost", "127.0.0.1"}:
            lost.append(f"host {body['host']}: units run on this machine; use `url:` for an engine elsewhere")
        said = {key: text for key in ("name", "description") if (text := self.text(name, body, key))}
        keys, advice = self.tabby(name, body) if engine == "tabbyapi" else self.scripted(name, body, engine)
        return Entry({**said, **keys}, _short(self.source.where("MODELS", name)), tuple(lost), tuple(advice))

    def scripted(self, name: str, body: Mapping[str, Any], engine: EngineName) -> tuple[dict[str, Any], list[str]]:
        script, path = self.text(name, body, "script"), self.text(name, body, "model_path")
        port = self.port(name, body, engine)
        if script is None:
            if path is None:
                at = self.source.where("MODELS", name)
                raise ConfigError(f"{at}: {name!r} has neither script nor model_path; add the start script's path")
            return {"engine": engine, "path": self.place(path), "port": port}, []
        start = scripts.look(Path(self.at_home(self.place(script))), engine)
        if self.inline:
            try:
                keys = start.inline(name)
                self.programs[name] = (start.server.engine if start.server else engine, start.program())
                return keys | {"port": start.port or port} | self.key(start), []
            except CannotTellError as error:
                return self.unit(name, body, engine, start), [*start.advice, f"left as a script: {error}"]
        return self.unit(name, body, engine, start), list(start.advice)

    def unit(self, name: str, body: Mapping[str, Any], engine: EngineName, start: Start) -> dict[str, Any]:
        """The script and the unit, as they are. What the script says about the port wins."""
        keys: dict[str, Any] = {
            "engine": engine,
            "script": self.place(self.text(name, body, "script") or ""),
            "service": unit_name(self.text(name, body, "service"), engine),
            "port": start.port or self.port(name, body, engine),
        }
        served = start.server.served_name if start.server else None
        if served and served != name:
            keys["served_name"] = served
        return keys | self.key(start)

    def key(self, start: Start) -> dict[str, Any]:
        """The engine's own API key, which clients do not have."""
        key = start.server.value(("--api-key",)) if start.server else None
        self.secret = self.secret or bool(key)
        return {"api_key": key} if key else {}

    def tabby(self, name: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        found = tabby.look(tabby.config_named(self.source.texts(), self.home))
        model = self.text(name, body, "model_name") or self.text(name, body, "model_path")
        advice = list(found.advice)
        if model is None:
            advice.append("model_name is taken to be the model's id; write the name of its folder")
        keys = {
            "engine": "tabbyapi",
            "tabby": found.keys(model or name),
            "service": unit_name(self.text(name, body, "service"), "tabbyapi"),
            "port": found.port or self.port(name, body, "tabbyapi"),
        }
        return keys, [*advice, tabby.KEYS_ADVICE.format(dir=found.dir)]

    def port(self, name: str, body: Mapping[str, Any], engine: EngineName) -> int:
        written = body.get("port")
        return (
            self.ports[engine] if written is None else port_of(written, self.source.where("MODELS", name, "port"), name)
        )

    def text(self, name: str, body: Mapping[str, Any], key: str) -> str | None:
        value = body.get(key)
        if value is not None and not isinstance(value, str):
            at = self.source.where("MODELS", name, key)
            raise ConfigError(f"{at}: {key} of {name!r} is not text; write it in quotes")
        return value or None

    def place(self, path: str) -> str:
        return path if path.startswith(("/", "~/")) else str(self.source.path.absolute().parent / path)

    def at_home(self, path: str) -> str:
        return str(self.home / path[2:]) if path.startswith("~/") else path


def engine_of(backend: object, at: str, name: str) -> EngineName:
    """Our engine for a backend of the original. Raises ConfigError."""
    if isinstance(backend, str) and backend.lower() in BACKENDS:
        return BACKENDS[backend.lower()]
    said = "has no backend" if backend is None else f"has the backend {backend!r}, which is not known"
    raise ConfigError(f"{at}: {name!r} {said}; write one of sglang, tabbyapi, llamacpp, vllm")


def port_of(written: object, at: str, name: str) -> int:
    """A port. Raises ConfigError."""
    if isinstance(written, bool) or not isinstance(written, int) or not 1 <= written <= 65535:
        raise ConfigError(f"{at}: the port of {name!r} is {written!r}; write a number from 1 to 65535")
    return written


def unit_name(written: str | None, engine: EngineName) -> str:
    """The systemd unit, by its full name; the original's for this engine if none is given."""
    name = written or engine
    return name if re.search(r"\.(service|scope|target)$", name) else f"{name}.service"


def programs(
    entries: Mapping[str, Entry], found: Mapping[str, tuple[EngineName, str | None]]
) -> tuple[dict[str, Entry], dict[str, Any]]:
    """The `engines:` section for inlined models; a model whose program is not its engine's first one says so."""
    chosen: dict[EngineName, str | None] = {}
    kept = dict(entries)
    for name, (engine, program) in found.items():
        if chosen.setdefault(engine, program) != program:
            said = f"its script ran {program or 'what is on PATH'}; `engines.{engine}` has one program for all models"
            kept[name] = Entry(kept[name].body, kept[name].origin, (*kept[name].lost, said), kept[name].advice)
    section = {
        engine: {"binary" if engine == "llamacpp" else "python": program}
        for engine, program in chosen.items()
        if program
    }
    return kept, ({"engines": section} if section else {})


def settings(router_port: int | None, timeout: float | None) -> tuple[dict[str, Any], dict[str, str]]:
    """`listen` and `defaults` where the original's differ from ours, with remarks."""
    top: dict[str, Any] = {}
    remarks = {}
    if router_port and router_port != ROUTER_PORT:
        top["listen"] = [f"127.0.0.1:{router_port}", f"[::1]:{router_port}"]
    if timeout and timeout > 0 and timeout != LOAD_TIMEOUT:
        top["defaults"] = {"load_timeout": {"expected": f"{timeout:g}s"}}
        remarks["defaults"] = (
            "the figure after the slash in '15s / 180s'; a load that moves may go on beyond it. Without this line it "
            "is learned from each model's own loads."
        )
    return top, remarks


def ports(source: Source) -> dict[EngineName, int]:
    """Ports by engine: `SGLANG_PORT = ...`, `SGLANG_URL = ...`, `BACKENDS = {...}`, else the usual ones."""
    found = dict(PORTS)
    for name, engine in BACKENDS.items():
        prefix = re.sub(r"\W", "", name).upper()
        for value in (_port_in_url(source.names.get(f"{prefix}_URL")), source.names.get(f"{prefix}_PORT")):
            if isinstance(value, int) and not isinstance(value, bool):
                found[engine] = port_of(value, source.where(f"{prefix}_PORT"), name)
    backends = source.names.get("BACKENDS")
    for name, body in (backends if isinstance(backends, dict) else {}).items():
        if not isinstance(body, dict) or str(name).lower() not in BACKENDS:
            continue
        port = body.get("port") or _port_in_url(body.get("url"))
        if port:
            found[BACKENDS[str(name).lower()]] = port_of(port, source.where("BACKENDS", str(name), "port"), str(name))
    return found


def _port_in_url(url: object) -> int | None:
    try:
        return urlsplit(url).port if isinstance(url, str) else None
    except ValueError:
        return None


def _figure(source: Source, name: str, function: tuple[str, str], keyword: str) -> int | None:
    """A port that is a constant of that name, or an argument of that call."""
    for value in (source.names.get(name), source.keyword(function, keyword)):
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
            return value
    return None


def _timeout(source: Source) -> float | None:
    value = source.names.get("MODEL_LOAD_TIMEOUT")
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _listening(source: Source) -> Iterable[str]:
    if source.keyword(("uvicorn", "run"), "host") in serving.ANYWHERE:
        yield (
            "the original listened on every interface without keys; Roundhouse listens on this machine only. For "
            "others add `keys:`, and their address to `listen:`"
        )


def _short(where: str) -> str:
    path, _, line = where.rpartition(":")
    return f"{Path(path).name}:{line}"
