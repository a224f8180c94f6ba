"""The state of a TabbyAPI double: what it has loaded, and how a load goes. Knows no HTTP.

A model is a folder with a config.json; how it behaves stands there under the key `double` (see `Model`).
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.support.tabby_shapes import VERSIONS, listed

POLL = 0.005


@dataclass
class Behaviour:
    """Faults of the process.

    version: a key of VERSIONS. record: file for notes. exllamav2: whether it is installed (old versions). deaf: SIGTERM
    is ignored. hang_unload: an unload is never answered. answer_gate: nothing is answered before this file exists.
    start_gate: the port opens after it exists. die_mid_stream: tokens of an answer before the process kills itself.
    cut_load: events of a load stream after which its connection is cut, once.
    """

    version: str = "e632af4"
    record: str = ""
    exllamav2: bool = True
    deaf: bool = False
    hang_unload: bool = False
    answer_gate: str = ""
    start_gate: str = ""
    die_mid_stream: int | None = None
    cut_load: int | None = None


@dataclass
class Model:
    """How one model loads.

    modules, delay (seconds between two). gate: waited for after `gate_after` modules. late_gate: waited for between the
    end of the modules and the model being usable. oom_after: modules until memory is out. die_after: modules until the
    process kills itself. error: the load's error from the start.
    """

    modules: int = 8
    delay: float = 0.0
    gate: str = ""
    gate_after: int = 0
    late_gate: str = ""
    oom_after: int | None = None
    die_after: int | None = None
    error: str = ""
    vision: bool = False


@dataclass
class Loaded:
    """The container: a folder and what it was loaded with."""

    folder: Path
    settings: dict[str, Any]
    jobs: set[threading.Event] = field(default_factory=set)


class LoadError(Exception):
    """What becomes an error event."""


class Tabby:
    """The state of the process."""

    def __init__(self, behaviour: Behaviour, config: dict[str, dict[str, Any]]) -> None:
        self.behaviour = behaviour
        self.version = VERSIONS[behaviour.version]
        self.config = config
        self.container: Loaded | None = None
        self.load_lock = threading.Lock()
        self.draining = False
        self.issues: list[dict[str, str]] = []

    def note(self, what: str, **more: object) -> None:
        if self.behaviour.record:
            with Path(self.behaviour.record).open("a") as file:
                file.write(json.dumps({"what": what, "pid": os.getpid(), **more}) + "\n")

    # --- keys ---

    def keys(self) -> dict[str, Any]:
        path = Path("api_tokens.yml")
        if not path.exists():
            made = {"api_key": secrets.token_hex(16), "admin_key": secrets.token_hex(16)}
            path.write_text("".join(f"{name}: '{key}'\n" for name, key in made.items()))
        found = YAML(typ="safe", pure=True).load(path.read_text())
        keys = found.get("api_key"), found.get("admin_key")
        if not isinstance(keys[1], str) or not isinstance(keys[0], str | list):
            sys.exit(
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for AuthKeys\n"
                "admin_key\n  Input should be a valid string [type=string_type, input_value=1234, input_type=int]"
            )
        return {"api": [keys[0]] if isinstance(keys[0], str) else keys[0], "admin": keys[1]}

    # --- models ---

    def load(self, folder: Path, asked: dict[str, Any], tell: Any) -> None:
        """Loads; `tell` gets (module, modules, part). Raises LoadError."""
        if not self.version.continues:
            self._load(folder, asked, tell)
            return
        with self.load_lock:
            self._load(folder, asked, tell)

    def _load(self, folder: Path, asked: dict[str, Any], tell: Any) -> None:
        there = self.container
        if there is not None and self._is_same(there.folder, folder):
            self.note("same", folder=str(folder))
            if self.version.same == "error":
                raise LoadError(f'Model "{folder.name}" is already loaded! Aborting.')
            if self.version.same == "finished":
                tell(1, 1, "model")
            return
        if there is not None:
            self._drain(there)
        self.container = None
        settings, model = self._settings(folder, asked)
        parts = [("model", model.modules)]
        draft = asked.get("draft_model") or {}
        if draft.get("draft_model_name"):
            place = Path(self.config["draft_model"]["draft_model_dir"]) / draft["draft_model_name"]
            if not (place / "config.json").exists():
                raise LoadError(f"[Errno 2] No such file or directory: '{place / 'config.json'}'")
            parts.insert(0, ("draft", 4))
        if model.vision and asked.get("vision"):
            parts.insert(0, ("vision", 3))
        print(f"2026-11-22 17:08:24.822 INFO:     Loading model: {folder}", flush=True)
        self.note("loading", folder=str(folder), asked=asked)
        for part, modules in parts:
            self._modules(model, part, modules, tell)
        gate(model.late_gate)
        self.container = Loaded(folder, settings)
        print("2026-11-22 17:08:24.822 INFO:     Model successfully loaded.", flush=True)
        self.note("loaded", folder=str(folder), settings=settings)

    def _is_same(self, old: Path, new: Path) -> bool:
        return old.name == new.name if self.version.by_basename else old.resolve() == new.resolve()

    def _drain(self, there: Loaded) -> None:
        """`skip_queue` does not shorten it."""
        self.draining = True
        while there.jobs:
            time.sleep(POLL)
        self.draining = False
        self.note("unloaded", folder=str(there.folder), by="load")

    def _modules(self, model: Model, part: str, modules: int, tell: Any) -> None:
        for module in range(1, modules + 1):
            if part == "model":
                if model.gate and model.gate_after == module - 1:
                    gate(model.gate)
                if model.die_after == module - 1:
                    os._exit(9)
                if model.oom_after == module - 1:
                    raise LoadError("Insufficient VRAM in split for model and cache")
            time.sleep(model.delay)
            tell(module, modules, part)

    def _settings(self, folder: Path, asked: dict[str, Any]) -> tuple[dict[str, Any], Model]:
        if not (folder / "config.json").exists():
            raise LoadError(f"Failed to load config.json from {folder}")
        card = json.loads((folder / "config.json").read_text())
        merged = {key: value for key, value in asked.items() if value is not None}
        override = folder / "tabby_config.yml"
        if override.exists():
            said = YAML(typ="safe", pure=True).load(override.read_text())["model"]
            merged = {**merged, **said} if self.version.file_wins else {**said, **merged}
        self._check_method((card.get("quantization_config") or {}).get("quant_method"))
        if self.config["model"].get("backend"):
            merged.setdefault("backend", self.config["model"]["backend"])
        model = Model(**card.get("double", {}))
        if model.error:
            raise LoadError(model.error)
        if (merged.get("cache_size") or 0) % 256:
            raise LoadError("max_num_tokens must be a multiple of 256.")
        trained = card.get("max_position_embeddings", 131072)
        length = merged.get("max_seq_len") or trained
        return {
            "max_seq_len": trained if length == -1 else length,
            "cache_size": merged.get("cache_size") or trained,
            "cache_mode": merged.get("cache_mode") or "FP16",
        }, model

    def _check_method(self, method: str | None) -> None:
        if self.version.exl2:
            if method != "exl3" and not self.behaviour.exllamav2:
                if self.version.name == "84bb1ce":
                    raise LoadError("Invalid backend 'exllamav2'. Available backends: ['exllamav3']")
                raise LoadError("Backend 'exllamav2' selected, but required dependencies are not installed.")
        elif method in {"exl2", "gptq"}:
            raise LoadError(
                f"Models quantized with '{method}' require the exllamav2 backend, which is no longer supported. "
                "Please use an exl3 or unquantized model."
            )

    def unload(self) -> None:
        """Cancels running jobs at once; their streams then hang."""
        assert self.container is not None
        for job in self.container.jobs:
            job.set()
        self.note("unloaded", folder=str(self.container.folder), by="unload")
        self.container = None

    def card(self, *, with_parameters: bool = True) -> dict[str, Any]:
        assert self.container is not None
        told = {
            **self.container.settings, "rope_scale": 1.0, "rope_alpha": 1.0, "max_batch_size": 128, "chunk_size": 2048,
            "prompt_template": "from_tokenizer_config", "prompt_template_content": "", "use_vision": False,
            "draft": None,
        }  # fmt: skip
        entry = listed(self.container.folder.name)
        return {**entry, "parameters": told} if with_parameters else entry


def gate(path: str) -> None:
    while path and not Path(path).exists():
        time.sleep(POLL)
