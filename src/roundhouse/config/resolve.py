"""From models as written to models as run: defaults applied, engine and launcher settled, paths absolute.

Looks at the file system (which engine a path asks for, what `models_dir` holds) but opens no model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from roundhouse.config import discover
from roundhouse.config.models import (
    Checkout,
    Config,
    Defaults,
    EngineName,
    LauncherName,
    LoadTimeout,
    ModelConfig,
    Sessions,
    Tabby,
)
from roundhouse.config.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from roundhouse.config.problems import Problems

Part = TypeVar("Part", bound=Section)


@dataclass(frozen=True, slots=True)
class Paths:
    """How paths of one file are read: `~` is the user's home, the rest is relative to the file's folder."""

    folder: Path
    env: Mapping[str, str]

    def absolute(self, path: Path) -> Path:
        """An absolute path, `..` resolved without looking at the disk (links are kept)."""
        text = str(path)
        if text == "~" or text.startswith("~/"):
            text = str(self.home()) + text[1:]
        return Path(os.path.normpath(self.folder / text))

    def program(self, name: str | None) -> str | None:
        """A bare word is looked for on PATH later; what has a slash is a path."""
        return str(self.absolute(Path(name))) if name and ("/" in name or name.startswith("~")) else name

    def home(self) -> Path:
        """The user's folder: $HOME of the given environment, else what the system says."""
        return Path(self.env.get("HOME") or Path.home())

    def state(self) -> Path:
        """Default of `state_dir`: systemd's for a service, else the user's own."""
        if service := self.env.get("STATE_DIRECTORY"):
            return Path(service.split(":")[0])
        if state := self.env.get("XDG_STATE_HOME"):
            return Path(state) / "roundhouse"
        return self.home() / ".local/state/roundhouse"


@dataclass(slots=True)
class Resolver:
    """Resolves the models of one file. Adds what is wrong to `problems`, what is odd to `warnings`."""

    paths: Paths
    problems: Problems
    warnings: list[str] = field(default_factory=list)
    checkout: Path | None = None
    """TabbyAPI's, for models that name none."""

    def top(self, config: Config) -> Config:
        """Everything but the models, with absolute paths."""
        absolute, program = self.paths.absolute, self.paths.program
        engines = config.engines
        changes: dict[str, Any] = {
            "state_dir": absolute(config.state_dir) if "state_dir" in config.model_fields_set else self.paths.state(),
            "models_dir": tuple(absolute(folder) for folder in config.models_dir),
            "engines": _with(
                engines,
                llamacpp=_with(engines.llamacpp, binary=program(engines.llamacpp.binary)),
                sglang=_with(engines.sglang, python=program(engines.sglang.python)),
                vllm=_with(engines.vllm, python=program(engines.vllm.python)),
                tabbyapi=self._checkout(engines.tabbyapi),
            ),
        }
        if config.tls:
            changes["tls"] = _with(config.tls, cert=absolute(config.tls.cert), key=absolute(config.tls.key))
        return _with(config, **changes)

    def _checkout(self, told: Checkout) -> Checkout:
        self.checkout = self.paths.absolute(told.dir) if told.dir else None
        return _with(told, dir=self.checkout, python=self.paths.program(told.python))

    def model(self, written: ModelConfig, defaults: Defaults) -> ModelConfig:
        """One model as it will be run."""
        model = with_defaults(self._located(written), defaults)
        if model.any_of is not None:
            return model
        engine = model.engine or _engine_by_source(model)
        changes: dict[str, Any] = {"launcher": model.launcher or _launcher(model)}
        if model.path:
            changes |= self._looked_at(model, model.path)
            engine = engine or changes.pop("engine", None)
        elif engine is None:
            self.problems.add(("models", model.id), "can't tell which engine the script starts; add `engine:`")
        if engine == "tabbyapi" and model.path and not model.script:
            changes["tabby"] = self._in_checkout(model)
        # What others start may serve under a name of its own; it is asked for it.
        own_words = model.script is None and model.tabby is None
        served_name = model.served_name or (model.id if own_words else None)
        return _with(model, served_name=served_name, **{**changes, "engine": engine})

    def _in_checkout(self, model: ModelConfig) -> Tabby | None:
        """A model named by its folder alone, as TabbyAPI wants it said."""
        if model.path is None or self.checkout is None:
            return None
        folder = model.path
        return Tabby(dir=self.checkout, model_dir=folder.parent, model_name=folder.name, max_seq_len=model.context)

    def discovered(
        self, folders: Sequence[Path], written: Iterable[ModelConfig], defaults: Defaults
    ) -> list[ModelConfig]:
        """The models of `models_dir` that are not written in `models` already."""
        scans = [discover.scan(folder) for folder in folders]
        self.warnings += [text for scan in scans for text in scan.warnings]
        known = {model.path.resolve(): model for model in written if model.path}
        taken = {model.id: model for model in written}
        unknown = [found for scan in scans for found in scan.models if found.path.resolve() not in known]
        models, clashes = discover.by_name(unknown)
        for text in clashes:
            self.problems.add(("models_dir",), text)
        for name in models.keys() & taken.keys():
            self.problems.add(
                ("models", name),
                f"two models are named {name!r}: this one and {models[name].path} in models_dir; rename one",
            )
        fresh = [_as_config(found) for name, found in models.items() if name not in taken]
        return [with_defaults(self._of_tabby(model), defaults) for model in fresh]

    def _of_tabby(self, model: ModelConfig) -> ModelConfig:
        return _with(model, tabby=self._in_checkout(model)) if model.engine == "tabbyapi" else model

    def _located(self, model: ModelConfig) -> ModelConfig:
        """With absolute paths."""
        absolute = self.paths.absolute
        changes: dict[str, Any] = {
            key: absolute(path) for key in ("path", "script", "mmproj") if (path := getattr(model, key))
        }
        if model.tabby:
            tabby = model.tabby
            changes["tabby"] = _with(tabby, dir=absolute(tabby.dir), model_dir=absolute(tabby.model_dir))
        return _with(model, **changes)

    def _looked_at(self, model: ModelConfig, path: Path) -> dict[str, Any]:
        """What the disk says about a model's path: engine, the file inside a folder, the projector beside it."""
        where = ("models", model.id, "path")
        try:
            found = discover.detect(path)
        except discover.UndetectedError as undetected:
            if model.engine is None:
                self.problems.add(where, str(undetected))
            elif (reason := discover.absence(path)) is not None:
                self.warnings.append(f"models.{model.id}: {reason}")
            return {}
        missing = [reason for part in discover.parts_of(found.path) if (reason := discover.absence(part)) is not None]
        if missing:
            self.warnings.append(f"models.{model.id}: {'; '.join(missing)}")
        if (model.engine or found.engine) != "llamacpp":
            return {"engine": found.engine}
        mmproj = model.mmproj if "mmproj" in model.model_fields_set else found.mmproj
        return {"engine": found.engine, "path": found.path, "mmproj": mmproj}


def with_defaults(model: ModelConfig, defaults: Defaults) -> ModelConfig:
    """The model, with `defaults` wherever the model itself says nothing (within `load_timeout` too)."""
    said = model.model_fields_set
    changes: dict[str, Any] = {key: getattr(defaults, key) for key in ("profile", "ttl", "slots") if key not in said}
    own = model.load_timeout
    changes["load_timeout"] = LoadTimeout.model_construct(
        **(dict(defaults.load_timeout) | {key: getattr(own, key) for key in own.model_fields_set})
    )
    return _with(model, **changes)


def with_sessions(model: ModelConfig, sessions: Sessions) -> ModelConfig:
    """The model, with its `sessions` said outright where its engine has such."""
    if model.engine != "llamacpp":
        return model
    return _with(model, sessions=sessions.store != "off" and model.sessions is not False)


def _as_config(found: discover.Found) -> ModelConfig:
    return ModelConfig(
        id=found.name,
        path=found.path,
        engine=found.engine,
        launcher="process",
        mmproj=found.mmproj,
        served_name=found.name,
    )


def _engine_by_source(model: ModelConfig) -> EngineName | None:
    if model.url or model.command:
        return "openai"
    return "tabbyapi" if model.tabby else None


def _launcher(model: ModelConfig) -> LauncherName:
    if model.service:
        return "systemd"
    return "attached" if model.url else "process"


def _with(section: Part, **changes: object) -> Part:
    return section.model_copy(update=changes)
