"""Rules that no single key can show: one source per model, one meaning per name, memory that exists, who may connect.

Each function looks at validated parts and adds what is wrong to `problems`; what is only odd is returned as a warning.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from roundhouse.config import addresses, wording

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from roundhouse.config.models import Config, Key, ModelConfig
    from roundhouse.config.problems import KeyPath, Problems

SOURCES = ("path", "url", "command", "script", "tabby", "any_of")

_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}")


def source(model: ModelConfig, problems: Problems) -> None:
    """A model has exactly one source, and the keys that go with it."""
    at: KeyPath = ("models", model.id)
    given = [key for key in SOURCES if getattr(model, key) is not None]
    if not given:
        problems.add(at, f"says nothing about what to run; add one of {', '.join(SOURCES)}")
    if len(given) > 1:
        problems.add((*at, given[1]), f"a model has exactly one of {', '.join(given)}; keep one")
    if len(given) != 1:
        return
    if model.service and given[0] not in {"path", "script", "tabby"}:
        problems.add((*at, "service"), f"does not go with {given[0]}; use path, script or tabby, or remove it")
    for text in _launcher(model, given[0]):
        problems.add((*at, "launcher"), text)
    for key, text in _written_well(model):
        problems.add((*at, key), text)


def _launcher(model: ModelConfig, given: str) -> Iterator[str]:
    if model.launcher is None:
        return
    if given == "any_of":
        yield "any_of names other models and starts nothing itself; remove it"
    elif given == "url" and model.launcher != "attached":
        yield f"{model.launcher} does not go with url, which is run by others; write attached, or remove it"
    elif model.launcher == "attached" and given != "url" and model.port is None:
        yield "attached means that others run it, but nothing says where; add `port:`, or use `url:`"
    elif model.service and model.launcher != "systemd":
        yield f"{model.launcher} does not go with `service:`; write systemd, or remove one of them"


def _written_well(model: ModelConfig) -> Iterator[tuple[str, str]]:
    if model.engine and model.any_of is not None:
        yield "engine", "any_of names other models and runs nothing itself; remove it"
    if model.url is not None and not _is_url(model.url):
        yield "url", f"{model.url!r} is no address of a server; write http://host:port/v1"
    for key in ("command", "stop_command"):
        line = getattr(model, key)
        if line is not None and (wrong := _command_line(line)):
            yield key, wrong
    if model.health is not None and not model.health.startswith("/"):
        yield "health", f"{model.health!r} is no path; begin with a slash, as in /health"


def _command_line(line: str) -> str | None:
    try:
        return None if shlex.split(line) else "is empty; write a command"
    except ValueError as error:
        return f"is not a command line ({str(error).lower()}); check its quotes"


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def names(models: Mapping[str, ModelConfig], ids: Collection[str], problems: Problems) -> None:
    """Every id and alias means one model. `ids` are all of them, of models that have other faults too."""
    owners: dict[str, str] = {}
    for name in ids:
        if not name.strip() or not name.isprintable():
            problems.add(("models", name), f"{name!r} is no usable name; use letters, digits and - _ . : /")
    for model in models.values():
        for alias in model.aliases:
            at: KeyPath = ("models", model.id, "aliases")
            if alias == model.id:
                problems.add(at, f"{alias!r} is the model's own id; remove it")
            elif alias in ids:
                problems.add(at, f"{alias!r} is the id of another model; remove it or rename that model")
            elif alias in owners:
                problems.add(at, f"{alias!r} is an alias of {owners[alias]!r} already; keep it with one of them")
            owners.setdefault(alias, model.id)


def groups(models: Mapping[str, ModelConfig], ids: Collection[str], problems: Problems) -> None:
    """`any_of` names real models."""
    for model in models.values():
        if model.any_of is None:
            continue
        at: KeyPath = ("models", model.id, "any_of")
        if not model.any_of:
            problems.add(at, "names no model; write at least one id")
        for index, name in enumerate(model.any_of):
            if name not in ids:
                problems.add((*at, index), f"there is no model {name!r}; {wording.closest(name, ids)}")
            elif name == model.id or (name in models and models[name].any_of is not None):
                problems.add((*at, index), f"{name!r} is an any_of itself; name the models that it stands for")


def memory(models: Iterable[ModelConfig], devices: Mapping[str, int], problems: Problems) -> None:
    """Models fit on the declared devices; nothing can be said where none are declared."""
    if not devices:
        return
    for model in models:
        at: KeyPath = ("models", model.id)
        for index, device in enumerate(model.devices):
            if device not in devices:
                problems.add((*at, "devices", index), _no_device(device, devices))
        for device, need in (model.memory or {}).items():
            where = (*at, "memory", device) if device else (*at, "memory")
            if device and device not in devices:
                problems.add(where, _no_device(device, devices))
                continue
            usable = [device] if device else [name for name in model.devices or devices if name in devices]
            largest = max(usable, key=lambda name: devices[name], default=None)
            if largest and need > devices[largest]:
                problems.add(
                    where,
                    f"needs {_gib(need)}, but {largest} has {_gib(devices[largest])}; correct this or `devices:`",
                )


def _no_device(name: str, devices: Mapping[str, int]) -> str:
    return f"there is no device {name!r}; {wording.closest(name, devices)}"


def _gib(size: int) -> str:
    return f"{size / 1024**3:.4g} GiB"


def listening(config: Config, problems: Problems) -> None:
    """Spec F1: nobody opens the box to a network by accident."""
    if config.keys or config.allow_anonymous:
        return
    for index, address in enumerate(config.listen):
        host, _ = addresses.split(address)
        if not addresses.is_loopback(host):
            problems.add(
                ("listen", index),
                f"{address} can be reached from other machines and no keys are set; listen on 127.0.0.1, add `keys:`, "
                "or write `allow_anonymous: true`",
            )


def references(config: Config, ids: Collection[str], aliases: Collection[str], problems: Problems) -> None:
    """Models that settings speak of exist."""
    task_model = config.scheduling.task_model
    if task_model is not None and task_model not in {*ids, *aliases}:
        problems.add(
            ("scheduling", "task_model"), f"there is no model {task_model!r}; {wording.closest(task_model, ids)}"
        )
    seen: set[str] = set()
    for index, key in enumerate(config.keys):
        if key.name in seen:
            problems.add(("keys", index, "name"), f"two keys are named {key.name!r}; rename one")
        seen.add(key.name)


def odd_keys(keys: Iterable[Key], known: Collection[str]) -> Iterator[str]:
    """Keys that can never match, or that allow what does not exist."""
    for key in keys:
        if not _HASH.fullmatch(key.hash):
            yield f"keys: the hash of {key.name!r} is not sha256: and 64 hexadecimal digits; it never matches"
        for name in key.models:
            if "*" not in name and name not in known:
                yield f"keys: {key.name!r} may use {name!r}, which is no model"
