"""The original's later `config.json`: models by path, ports by backend, and the wrapper scripts beside it.

There the router never handed `model_path` to SGLang or llama.cpp (the wrappers took the first model of the file); here
each model is started with its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roundhouse.config.importers import files, original, scripts, serving, tabby
from roundhouse.config.importers.result import Entry, Imported
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from roundhouse.config.importers.scripts import Start
    from roundhouse.config.models import EngineName

TOP = frozenset({"router_port", "model_load_timeout", "backends", "models", "tabby_config_path", "tabby_model_dir"})
WRAPPERS: Mapping[EngineName, str] = {"sglang": "*sglang*.sh", "llamacpp": "*llama*.sh", "vllm": "*vllm*.sh"}


def read(path: Path, home: Path) -> Imported:
    """The models of a config.json. Raises ConfigError for what makes no sense."""
    data = files.read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
        raise ConfigError(f'{path}: has no "models" object; give the router\'s config.json')
    reader = _Reader(path, data, home)
    entries = {name: reader.entry(name, body) for name, body in data["models"].items()}
    timeout = data.get("model_load_timeout")
    top, remarks = original.settings(
        original.port_of(data["router_port"], str(path), "the router") if "router_port" in data else None,
        timeout if isinstance(timeout, int | float) and not isinstance(timeout, bool) else None,
    )
    lost = [f"{key} is not known here" for key in data if key not in TOP]
    return Imported(path, "original", entries, top | reader.engines(), remarks, (*lost, *reader.elsewhere()))


@dataclass(slots=True)
class _Reader:
    path: Path
    data: Mapping[str, Any]
    home: Path
    wrappers: dict[EngineName, Start | None] = field(default_factory=dict)

    def entry(self, name: str, body: object) -> Entry:
        if not isinstance(body, dict):
            raise ConfigError(f"{self.path}: models.{name} is not an object; write its backend and model_path")
        engine = original.engine_of(body.get("backend"), f"{self.path}: models.{name}", name)
        model = body.get("model_path") or body.get("model_name")
        if not isinstance(model, str):
            raise ConfigError(f"{self.path}: models.{name} has no model_path; add the model's file or folder")
        lost = [f"{key} is not known here" for key in body if key not in {"backend", "model_path", "model_name"}]
        origin = f"{self.path.name}: models.{name}"
        if engine == "tabbyapi":
            found = self.tabby()
            keys = {"engine": engine, "tabby": found.keys(model), "port": found.port or self.port(engine)}
            return Entry(keys, origin, tuple(lost), (*found.advice, tabby.KEYS_ADVICE.format(dir=found.dir)))
        keys = {"engine": engine, "path": self.place(model), "port": self.port(engine)}
        wrapped, advice = self.wrapped(engine)
        return Entry(keys | wrapped, origin, tuple(lost), advice)

    def wrapped(self, engine: EngineName) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The arguments and environment that the wrapper script gave every model of its engine."""
        start = self.wrapper(engine)
        if start is None or start.server is None or start.script is None:
            return {}, ()
        flags = serving.FLAGS[start.server.engine]
        own = [*flags.model, *flags.port, *flags.host, *flags.served]
        args = serving.without(start.server.args, own)
        dropped = sum(word is None for word in start.server.args)
        env = {name: value for name, value in start.script.exported.items() if value is not None}
        advice = [f"arguments are those of {start.path.name}"]
        if dropped > 1:  # one is the model, which is told by `path`
            advice.append(f"{start.path.name} has words that only a shell knows; compare its command with `args`")
        return ({"args": args} if args else {}) | ({"env": env} if env else {}), tuple(advice)

    def wrapper(self, engine: EngineName) -> Start | None:
        """The first wrapper script of an engine beside the file, or in `scripts` beside it."""
        if engine not in self.wrappers:
            folder = self.path.absolute().parent
            found = [
                script
                for place in (folder, folder / "scripts")
                for script in sorted(place.glob(WRAPPERS[engine]))
                if script.is_file()
            ]
            self.wrappers[engine] = scripts.look(found[0], engine) if found else None
        return self.wrappers[engine]

    def engines(self) -> dict[str, Any]:
        """The `engines:` section, from the wrappers' programs."""
        section: dict[str, Any] = {}
        for engine, start in self.wrappers.items():
            try:
                program = start.program() if start else None
            except serving.CannotTellError:
                program = None
            if program:
                section[engine] = {"binary" if engine == "llamacpp" else "python": program}
        return {"engines": section} if section else {}

    def elsewhere(self) -> list[str]:
        """Hosts that the original read and never used."""
        return [
            f"backends.{name}.host {body['host']}: engines run on this machine; use `url:` for one elsewhere"
            for name, body in self.backends().items()
            if body.get("host") not in {None, "localhost", "127.0.0.1", "0.0.0.0"}  # noqa: S104 - compared with
        ]

    def backends(self) -> dict[str, dict[str, Any]]:
        found = self.data.get("backends") or {}
        if not isinstance(found, dict) or not all(isinstance(body, dict) for body in found.values()):
            raise ConfigError(
                f'{self.path}: backends is not an object of objects; write {{"sglang": {{"port": 30000}}}}'
            )
        return found

    def port(self, engine: EngineName) -> int:
        for name, body in self.backends().items():
            if original.BACKENDS.get(name.lower()) == engine and "port" in body:
                return original.port_of(body["port"], f"{self.path}: backends.{name}.port", name)
        return original.PORTS[engine]

    def tabby(self) -> tabby.Tabby:
        named, folder = self.data.get("tabby_config_path"), self.data.get("tabby_model_dir")
        config = tabby.config_named([named] if isinstance(named, str) else [], self.home)
        return tabby.look(config, self.place(folder) if isinstance(folder, str) else None)

    def place(self, path: str) -> str:
        return path if path.startswith(("/", "~/")) else str(self.path.absolute().parent / path)
