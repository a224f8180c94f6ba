"""TabbyAPI checkouts: keys private, and a config.yml that leaves loading to Roundhouse (facts: its pages and code)."""

from __future__ import annotations

import shlex
import stat
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from roundhouse.app import specs
from roundhouse.app.doctor.finding import error, note, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.config.models import ModelConfig

LARGEST = 1 << 20
"""Bytes of a config.yml that are read."""


def check(visit: Visit) -> Iterator[Finding]:
    """Each checkout, once."""
    seen: dict[Path, ModelConfig] = {model.tabby.dir: model for model in reversed(visit.engines) if model.tabby}
    for folder, model in reversed(seen.items()):
        if not folder.is_dir():
            yield error(str(folder), f"There is no TabbyAPI in it, which {model.id} names.", "correct `tabby.dir`")
            continue
        yield from _keys(model)
        yield from _settings(folder, model)


def _keys(model: ModelConfig) -> Iterator[Finding]:
    keys = specs.engine_of(model).keys(model)
    if keys is None:
        return
    about, quoted = str(keys.path), shlex.quote(str(keys.path))
    try:
        mode = stat.S_IMODE(keys.path.stat().st_mode)
        with keys.path.open("rb"):
            pass
    except FileNotFoundError:
        yield note(about, "It does not exist yet; it is made before the first start.")
    except OSError as problem:
        yield error(
            about,
            f"Its keys can't be read: {problem.strerror}.",
            f"give it to the user that runs Roundhouse: chown USER {quoted}",
        )
    else:
        if mode & 0o077:
            yield warning(about, f"Others can read the admin key in it (mode {mode:04o}).", f"chmod 600 {quoted}")
        else:
            yield ok(about, "Its keys can be read by this user alone.")


def _settings(folder: Path, model: ModelConfig) -> Iterator[Finding]:
    path = folder / "config.yml"
    try:
        with path.open("rb") as file:
            told = YAML(typ="safe", pure=True).load(file.read(LARGEST))
    except FileNotFoundError:
        return
    except (OSError, YAMLError, UnicodeDecodeError, ValueError) as problem:
        first = str(problem).partition("\n")[0]
        yield error(str(path), f"It can't be read ({first}), and TabbyAPI would start with its defaults.", "correct it")
        return
    yield from _judged(str(path), _section(told, "model"), _section(told, "network"), model)


def _section(told: object, name: str) -> dict[str, Any]:
    found = told.get(name) if isinstance(told, dict) else None
    return found if isinstance(found, dict) else {}


def _judged(about: str, model: dict[str, Any], network: dict[str, Any], config: ModelConfig) -> Iterator[Finding]:
    assert config.tabby is not None
    if config.tabby.mode == "api" and model.get("model_name"):
        yield note(
            about,
            f"model_name: {model['model_name']} is loaded at every start, before its port opens and without progress.",
            "remove model_name: Roundhouse loads what is asked for",
        )
    if model.get("inline_model_loading"):
        yield warning(
            about,
            "inline_model_loading is on: a request that reaches TabbyAPI directly switches models beneath Roundhouse.",
            "set inline_model_loading: false",
        )
    if network.get("disable_auth"):
        yield warning(
            about, "disable_auth is on: anyone who reaches its port may load models.", "set disable_auth: false"
        )
    if str(network.get("host", "")) in {"0.0.0.0", "::"}:  # noqa: S104 -- compared with, not bound to
        yield warning(
            about, f"It listens on {network['host']}: other machines reach it past Roundhouse.", "set host: 127.0.0.1"
        )
    port = network.get("port")
    if isinstance(port, int) and port != (expected := specs.port_of(config)):
        yield error(
            about,
            f"It serves on port {port}, but Roundhouse expects port {expected}.",
            f"set `port: {port}` for {config.id}",
        )
