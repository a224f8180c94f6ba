"""TabbyAPI as others have set it up: its folder, and what its config.yml says about models. Never changes that file."""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roundhouse.config.importers import files
from roundhouse.config.importers.serving import ANYWHERE
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEPT = ("max_seq_len", "cache_mode")
"""Keys of its `model` section that we have as well. Other keys do not apply to a load by its API."""

KEYS_ADVICE = (
    "Roundhouse loads it by TabbyAPI's admin API and reads admin_key from {dir}/api_tokens.yml: its user must be able "
    "to read that file (not needed where config.yml has network.disable_auth: true)"
)


@dataclass(frozen=True, slots=True)
class Tabby:
    """A TabbyAPI checkout.

    Attributes:
        model: the `model` section of its config.yml; empty if that can't be read.
        port: its port, if config.yml says one.
        advice: what is odd about it.
    """

    dir: str
    model_dir: str
    model: Mapping[str, Any] = field(default_factory=dict)
    port: int | None = None
    advice: tuple[str, ...] = ()

    def keys(self, name: str) -> dict[str, Any]:
        """The `tabby` section for the model in the folder `name` below `model_dir`, which may be a path itself."""
        place, _, last = name.rstrip("/").rpartition("/")
        folder = os.path.normpath(os.path.join(self.model_dir, place))  # noqa: PTH118 - joins as a shell would
        body: dict[str, Any] = {"dir": self.dir, "model_dir": folder, "model_name": last}
        seq, cache = self.model.get("max_seq_len"), self.model.get("cache_mode")
        if isinstance(seq, int) and not isinstance(seq, bool) and seq > 0:
            body["max_seq_len"] = seq
        if isinstance(cache, str) and cache:
            body["cache_mode"] = cache
        return body


def config_named(texts: Iterable[str], home: Path) -> Path:
    """The config.yml among these texts: the first that exists, else the first, else where the original looked."""
    named = [_at_home(text, home) for text in texts if Path(text).name == "config.yml"]
    usual = [home / "tabbyAPI/config.yml", Path("/opt/tabbyAPI/config.yml"), Path("/etc/tabbyapi/config.yml")]
    candidates = named or usual
    return next((path for path in candidates if path.is_file()), candidates[0])


def look(config: Path, model_dir: str | None = None) -> Tabby:
    """What a config.yml says. One that can't be read is told, and nothing is taken from it."""
    folder = str(config.parent)
    fallback = Tabby(folder, model_dir or f"{folder}/models")
    try:
        read = files.read_yaml(config)
        model, network = read.mapping("model"), read.mapping("network")
    except ConfigError as error:
        return Tabby(fallback.dir, fallback.model_dir, advice=(f"{error.message}; model_dir is a guess",))
    written = model.get("model_dir")
    where = model_dir or os.path.normpath(os.path.join(folder, written if isinstance(written, str) else "models"))  # noqa: PTH118 - as above
    advice = []
    if network.get("host") in ANYWHERE and network.get("disable_auth") is True:
        advice.append(f"{config} opens TabbyAPI to the network without keys; set network.host to 127.0.0.1")
    port = network.get("port")
    return Tabby(folder, where, model, port if isinstance(port, int) else None, tuple(advice))


def _at_home(text: str, home: Path) -> Path:
    return home / text[2:] if text.startswith("~/") else Path(text)
