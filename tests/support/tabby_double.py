"""A double of TabbyAPI: its admin API, its OpenAI API, its files and every trap of theirs, without a model.

A program of its own, run as `python main.py` in a checkout that `tests.support.tabby_checkout` lays out. It has three
versions, the commits that were really run: 84bb1ce, 79126f9, e632af4 (see `tabby_shapes.Version`). How a model behaves
is said in its folder (`tabby_engine.Model`), how the process behaves in `double.json` of the checkout
(`tabby_engine.Behaviour`). A `gate` is a path that a test creates; nothing waits for a time where it can wait for that.
What it did it appends to `record` as lines of JSON. Needs ruamel.yaml, as TabbyAPI does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.support.tabby_engine import Behaviour, LoadError, Tabby, gate
from tests.support.tabby_http import Handler, Server

DEFAULTS: dict[str, dict[str, Any]] = {
    "network": {"host": "127.0.0.1", "port": 5000, "disable_auth": False, "sse_ping_interval": 15},
    "model": {"model_dir": "models", "inline_model_loading": False, "use_dummy_models": False, "use_as_default": []},
    "draft_model": {"draft_model_dir": "models"},
}


def read_config(arguments: list[str]) -> dict[str, dict[str, Any]]:
    """config.yml, then the environment, then flags; broken YAML is logged and passed over."""
    said: dict[str, Any] = {}
    try:
        said = YAML(typ="safe", pure=True).load(Path("config.yml").read_text()) or {}
    except FileNotFoundError:
        print("The 'config.yml' file cannot be found", flush=True)
    except Exception as error:
        print(f"The YAML config from 'config.yml' couldn't load because of the following error:\n\n{error}", flush=True)
    flags = {name: getattr(parsed(arguments), name) for name in ("model_name", "model_dir", "port", "host")}
    found: dict[str, dict[str, Any]] = {}
    for section, values in DEFAULTS.items():
        file = {key: value for key, value in (said.get(section) or {}).items() if value is not None}
        prefix = f"TABBY_{section.upper()}_"
        env = {key.removeprefix(prefix).lower(): text for key, text in os.environ.items() if key.startswith(prefix)}
        ours = {
            key: value
            for key, value in flags.items()
            if value is not None and (key in {"port", "host"}) == (section == "network")
        }
        found[section] = {**values, **file, **env, **(ours if section in {"network", "model"} else {})}
    found["network"]["port"] = int(found["network"]["port"])
    check(found["model"])
    return found


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--model-name", "--model-dir", "--port", "--host"):
        parser.add_argument(name)
    return parser.parse_args(arguments)


def check(model: dict[str, Any]) -> None:
    mode = str(model.get("cache_mode", "FP16"))
    if mode not in {"FP16", "Q8", "Q6", "Q4"} and not re.fullmatch(r"[2-8]\s*,\s*[2-8]", mode):
        print(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for TabbyConfigModel\n"
            f"model.cache_mode\n  Input should be 'FP16', 'Q8', 'Q6' or 'Q4' [type=literal_error, input_value={mode!r}]",
            flush=True,
        )
        sys.exit(1)


def free_port(port: int) -> int:
    """As TabbyAPI does: the next one if it is taken."""
    for candidate in (port, port + 1):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("localhost", candidate)) != 0:
                if candidate != port:
                    print(
                        f"2026-11-22 17:08:24.822 WARNING:  Port {port} is currently in use. Switching to {candidate}.",
                        flush=True,
                    )
                return candidate
    print(f"Ports {port} and {port + 1} are in use by different services.", flush=True)
    sys.exit(0)


def load_at_start(tabby: Tabby) -> None:
    """Before the port opens; what goes wrong ends the process with code 1."""
    model = tabby.config["model"]
    if not model.get("model_name"):
        return
    try:
        tabby.load(
            Path(model["model_dir"]) / model["model_name"],
            {**model, "draft_model": tabby.config["draft_model"]},
            lambda *_: None,
        )
    except LoadError as error:
        print(
            f'Traceback (most recent call last):\n  File "main.py", line 1\nRuntimeError: {error}',
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)


def main() -> None:
    """Runs in the checkout that is the working directory."""
    behaviour = Behaviour(**json.loads(Path("double.json").read_text()))
    tabby = Tabby(behaviour, read_config(sys.argv[1:]))
    env = {name: text for name, text in os.environ.items() if name.startswith(("TABBY_", "ROUNDHOUSE"))}
    signal.signal(
        signal.SIGTERM, lambda *_: tabby.note("deaf") if behaviour.deaf else (tabby.note("stopped"), os._exit(0))
    )
    port = free_port(tabby.config["network"]["port"])
    gate(behaviour.start_gate)
    load_at_start(tabby)
    tabby.keys()
    handler = type("Connection", (Handler,), {"tabby": tabby})
    with Server((tabby.config["network"]["host"], port), handler) as server:
        tabby.note("start", port=port, env=env, argv=sys.argv[1:], model_dir=tabby.config["model"]["model_dir"])
        print(
            f"2026-11-22 17:08:24.822 INFO:     Uvicorn running on http://127.0.0.1:{port} (Press CTRL+C to quit)",
            flush=True,
        )
        server.serve_forever(poll_interval=0.05)
