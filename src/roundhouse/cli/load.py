"""`load`, `unload`, `pin` and `unpin`: what an operator wants of a model, with its progress shown meanwhile."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, ModelArgument, UrlOption

if TYPE_CHECKING:
    from roundhouse.cli.client import Client


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog="Example: roundhouse load smollm2-135m")(load)
    app.command(epilog="Example: roundhouse unload smollm2-135m")(unload)
    app.command(epilog="Example: roundhouse pin smollm2-135m")(pin)
    app.command(epilog="Example: roundhouse unpin smollm2-135m")(unpin)


def load(
    model: ModelArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Load a model, making room for it if need be, and wait until it is ready."""
    from roundhouse.cli.client import Client
    from roundhouse.cli.screen import size

    found = _change(Client(url, key), model, "load", as_json)
    if not as_json:
        memory = ", ".join(f"{size(count)} on {device}" for device, count in found["device"].items())
        print(f"{found['model']} is ready{f' ({memory})' if memory else ''}.")


def unload(
    model: ModelArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Unload a model once its running answers have ended, and wait until it is gone."""
    from roundhouse.cli.client import Client

    found = _change(Client(url, key), model, "unload", as_json)
    if not as_json:
        again = "" if found["state"] in {"unloaded", "failed"} else f", and is {found['state']} again: it is wanted"
        print(f"{found['model']} is unloaded{again}.")


def pin(model: ModelArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Never unload a model to make room for others, until Roundhouse ends; `pinned: true` does so for good."""
    from roundhouse.cli.client import Client, model_path
    from roundhouse.cli.screen import print_json

    found = Client(url, key).post(model_path(model, "pin"))
    if as_json:
        print_json(found)
        return
    loaded = found["state"] in {"loading", "ready"}
    hint = "" if loaded else f" once it is loaded: roundhouse load {model}"
    print(f"{found['model']} is pinned: it stays{hint}.")


def unpin(
    model: ModelArgument, url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Let a model make room for others again, also one that is pinned in the configuration."""
    from roundhouse.cli.client import Client, model_path
    from roundhouse.cli.screen import print_json

    found = Client(url, key).post(model_path(model, "unpin"))
    if as_json:
        print_json(found)
    else:
        print(f"{found['model']} is not pinned.")


def _change(client: Client, model: str, action: str, as_json: bool) -> dict[str, Any]:
    """Asks for it and waits; prints the answer if it is to be JSON. Ctrl-C stops the waiting only."""
    from roundhouse.cli.client import model_path
    from roundhouse.cli.screen import err, print_json
    from roundhouse.cli.watch import watching

    try:
        with watching(client, model, f"{action}ing", err()):
            found: dict[str, Any] = client.post(model_path(model, action))
    except KeyboardInterrupt:
        undo = f"`roundhouse unload {model}` ends it" if action == "load" else "`roundhouse status` shows it"
        print(f"\nStopped waiting; the {action} goes on ({undo}).", file=sys.stderr)
        raise
    if as_json:
        print_json(found)
    return found
