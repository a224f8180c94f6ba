"""From a configuration file to a resolved `Config`: find it, read it, say everything that is wrong with it at once.

Every problem is one line, `file:line: key.path: what is wrong; remedy`, together one ConfigError (spec C1).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from roundhouse.config import checks, document, wording
from roundhouse.config.discover import is_gguf
from roundhouse.config.fields import FROM_FILE
from roundhouse.config.models import Config, Defaults, ModelConfig
from roundhouse.config.problems import Problems
from roundhouse.config.resolve import Paths, Resolver, with_sessions
from roundhouse.config.section import Section
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from roundhouse.config.models import Sessions
    from roundhouse.config.problems import KeyPath

LARGEST = 4 * 1024**2
"""Bytes of the largest configuration file that is read."""

Part = TypeVar("Part", bound=Section)


def find(explicit: Path | None, env: Mapping[str, str]) -> Path:
    """The configuration file to use: `explicit`, $ROUNDHOUSE_CONFIG, then the usual places.

    Raises ConfigError naming every place that was tried. A place that was asked for is never passed over.
    """
    asked = explicit or (Path(env["ROUNDHOUSE_CONFIG"]) if env.get("ROUNDHOUSE_CONFIG") else None)
    if asked is not None:
        if asked.is_file():
            return asked
        by = "--config" if explicit else "$ROUNDHOUSE_CONFIG"
        raise ConfigError(f"There is no file {asked} ({by}). Correct it, or run `roundhouse init` to write a file.")
    home = Path(env.get("HOME") or Path.home())
    places = [
        Path("roundhouse.yaml"),
        Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "roundhouse/config.yaml",
        Path("/etc/roundhouse/config.yaml"),
    ]
    for place in places:
        if place.is_file():
            return place
    tried = ", ".join(["--config", "$ROUNDHOUSE_CONFIG", f"./{places[0]}", *map(str, places[1:])])
    raise ConfigError(f"No configuration file. Tried: {tried}. `roundhouse init` writes one to start from.")


def load(path: Path, env: Mapping[str, str], sessions: Sessions | None = None) -> Config:
    """The configuration in a file; `sessions` as for `parse`. Raises ConfigError with all that is wrong with it."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from None
    if len(raw) > LARGEST:
        raise ConfigError(f"{path}: is larger than {LARGEST // 1024**2} MiB; this is no configuration file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: is not UTF-8 (byte {raw[error.start]:#04x}); save the file as UTF-8"
        ) from None
    return parse(text, path, env, sessions)


def parse(text: str, source: Path, env: Mapping[str, str], sessions: Sessions | None = None) -> Config:
    """The configuration in `text`. `source` names it in messages, and its folder is what paths are relative to.

    Models are resolved with `sessions` in place of what the text says of them: with those of a running Roundhouse.
    Looks at the disk for models, not at `source`. Raises ConfigError with all that is wrong.
    """
    problems = Problems(source)
    data = document.read(text, env, problems)
    if data is None:
        problems.raise_if_any()
        return Config()
    written = data.pop("models", None)
    top = _section(Config, data, (), problems)
    models = _models(written, problems)
    resolver = Resolver(Paths(source.absolute().parent, env), problems)
    config = _complete(top, models, _keys(written), resolver, sessions)
    problems.raise_if_any()
    return config.model_copy(update={"source": source})


def model_at(path: Path, config: Config, env: Mapping[str, str]) -> ModelConfig:
    """The model at a path as this configuration would run it. Raises ConfigError where no engine can be told."""
    source = config.source or Path("roundhouse.yaml")
    problems = Problems(source)
    resolver = Resolver(Paths(source.absolute().parent, env), problems, checkout=config.engines.tabbyapi.dir)
    name = path.stem if is_gguf(path) else path.name
    model = resolver.model(ModelConfig(id=name, path=path.absolute()), config.defaults)
    problems.raise_if_any()
    return with_sessions(model, config.sessions)


def _complete(
    top: Config | None,
    models: dict[str, ModelConfig],
    ids: tuple[str, ...],
    resolver: Resolver,
    sessions: Sessions | None,
) -> Config:
    """Checks across keys, and resolution. What did not validate is left out: it has been complained about."""
    problems = resolver.problems
    for model in models.values():
        checks.source(model, problems)
    config = resolver.top(top or Config())
    sound = {name: model for name, model in models.items() if not problems.within(("models", name))}
    resolved = {name: resolver.model(model, config.defaults if top else Defaults()) for name, model in sound.items()}
    fresh = resolver.discovered(config.models_dir, resolved.values(), config.defaults)
    known = {*ids, *(model.id for model in fresh)}
    aliases = {alias for model in models.values() for alias in model.aliases}
    checks.names(models, known, problems)
    checks.groups(models, known, problems)
    if top is not None:
        checks.memory(models.values(), top.devices, problems)
        checks.listening(top, problems)
        checks.references(top, known, aliases, problems)
    warnings = (*resolver.warnings, *checks.odd_keys(config.keys, known | aliases))
    everyone = resolved | {model.id: model for model in fresh}
    kept = {name: with_sessions(model, sessions or config.sessions) for name, model in everyone.items()}
    return config.model_copy(update={"models": kept, "warnings": warnings})


def _models(written: object, problems: Problems) -> dict[str, ModelConfig]:
    """The models that are well written, one by one, so that a fault in one hides none in another."""
    if written is None:
        return {}
    if not isinstance(written, Mapping):
        problems.add(("models",), "is not a mapping; write each model as `id:` with its keys below")
        return {}
    models = {}
    for name, body in written.items():
        at: KeyPath = ("models", name)
        if not isinstance(body, Mapping):
            problems.add(at, "is not a mapping of keys; write for example {path: /models/some.gguf}")
        elif (model := _section(ModelConfig, body, at, problems, id=name)) is not None:
            models[name] = model
    return models


def _section(of: type[Part], body: Mapping[str, Any], at: KeyPath, problems: Problems, **given: object) -> Part | None:
    """A validated section, None if anything in it is wrong. `given` are its fields that are no keys."""
    known = wording.keys_of(of)
    hidden = [key for key in body if key in of.model_fields and key not in known]
    for key in hidden:
        problems.add((*at, key), wording.unknown_key(key, known))
    try:
        return of.model_validate({key: body[key] for key in body if key not in hidden} | given, context=FROM_FILE)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            path = (*at, *detail["loc"])
            if not problems.at(path):
                problems.add(path, wording.sentence(detail, of))
        return None


def _keys(written: object) -> tuple[str, ...]:
    return tuple(written) if isinstance(written, Mapping) else ()
