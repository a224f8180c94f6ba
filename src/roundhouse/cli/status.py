"""`roundhouse status`: what every model is doing, and who holds the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.text import Text

NAMES = ("MODEL", "STATE")
FIGURES = ("MEMORY", "ACTIVE", "WAITING")
SIZES = ("TOTAL", "USED", "OURS", "OTHERS")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse status --json | jq .queue")(status)


def status(url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Show models, memory and the queue of a running Roundhouse."""
    from roundhouse.cli import screen
    from roundhouse.cli.client import Client

    client = Client(url, key)
    found = client.get("/api/v1/state")
    if as_json:
        screen.print_json(found)
        return
    console = screen.out()
    console.print(
        f"Roundhouse {found['version']} at {client.url}: {found['status']}, up {screen.duration(found['uptime_s'])},"
        f" {found['queue']} waiting"
    )
    if error := (found.get("configuration") or {}).get("error"):
        console.print(f"The configuration file was not applied: {error['message']}", style="red", markup=False)
    console.print()
    console.print(screen.table((*NAMES, *FIGURES, "NOTE"), _models(found["models"]), FIGURES))
    console.print()
    console.print(screen.table(("DEVICE", *SIZES), _devices(found["devices"]), SIZES))


def _models(models: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str | Text, ...]]:
    from roundhouse.cli import screen

    for name, model in models.items():
        memory = ", ".join(screen.size(size) for size in model["device"].values() if size)
        slots = model.get("slots")
        active = f"{model['active']}/{slots}" if slots else str(model["active"])
        yield name, screen.state(model["state"]), memory, active, str(model["waiting"]), note(model)


def note(model: Mapping[str, Any]) -> str:
    """What else is to say of a model: how far its load is, why it leaves, why it failed."""
    from roundhouse.cli import screen

    parts = ["pinned"] if model.get("pinned") else []
    if progress := model.get("progress"):
        parts.append(percent(progress.get("fraction")))
        parts.append(progress.get("stage") or "")
    parts.append(model.get("leaving") or "")
    parts.append(model.get("error") or "")
    if (retry := model.get("retry_in")) is not None:
        parts.append(f"tried again in {screen.duration(retry)} at the earliest")
    parts.append(_conversations(model.get("conversations") or {}))
    if model["state"] in {"ready", "draining"}:
        parts.append((model.get("switch") or {}).get("verdict") or "")
    return "; ".join(part for part in parts if part)


def _conversations(told: Mapping[str, Any]) -> str:
    from roundhouse.cli.screen import size

    if told.get("kept"):
        return f"{told['kept']} conversation{'s' if told['kept'] > 1 else ''} saved ({size(told['bytes'])})"
    # What the user or the model's kind decided is told by `check`; here only what went wrong.
    return f"conversations are not saved: {told['off']}" if told.get("off") and "saved" in told else ""


def percent(fraction: float | None) -> str:
    """`43 %`, '' where the engine does not say."""
    return "" if fraction is None else f"{fraction * 100:.0f} %"


def _devices(devices: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, ...]]:
    from roundhouse.cli.screen import size

    for name, device in devices.items():
        yield name, *(size(device[part]) for part in ("total", "used", "ours", "foreign"))
