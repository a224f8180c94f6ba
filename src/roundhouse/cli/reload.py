"""`plan` and `apply`: what the configuration file would change in a running Roundhouse, and having it hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FileArgument = Annotated[
    Path | None, typer.Argument(help="Another file to look at in its place; it is read as if it lay there.")
]
RESTART, STOP, LATER = "restart", "stop", "needs a restart of Roundhouse"
"""Effects, as the API names them."""
WIDEST = 60
"""Characters of a value that are shown."""


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog="Example: roundhouse plan new.yaml")(plan)
    app.command(epilog="Example: roundhouse apply")(apply)


def plan(
    file: FileArgument = None, url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """Show what applying the configuration file would change: which models restart, what holds at once."""
    from roundhouse.cli.client import Client
    from roundhouse.cli.screen import print_json

    client = Client(url, key)
    text = None if file is None else {"text": _read(file)}
    found = client.get("/api/v1/plan") if text is None else client.post("/api/v1/plan", text)
    if as_json:
        print_json(found)
    _require_good(found)
    if not as_json:
        show(found, "would change")
        if found["changes"] and file is None:
            print("\nApply it: roundhouse apply")


def apply(url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Apply the configuration file: only models whose settings changed restart, after their running answers."""
    from roundhouse.cli.client import Client
    from roundhouse.cli.screen import print_json

    client = Client(url, key)
    _require_good(client.get("/api/v1/plan"))
    found = client.post("/api/v1/reload")
    if as_json:
        print_json(found)
    else:
        show(found, "has changed")


def _read(file: Path) -> str:
    from roundhouse.cli.exits import Usage

    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{file} can't be read: {error}.") from None


def _require_good(found: Mapping[str, Any]) -> None:
    from roundhouse.cli.exits import Usage

    if found["error"] is not None:
        raise Usage(f"{found['error']['message']}\nNothing changes until that is mended.")


def show(found: Mapping[str, Any], verb: str) -> None:
    """Prints what a plan or a reload answered."""
    changes = found["changes"]
    if not changes:
        print(f"Nothing {verb}: what runs is what {found['file']} says.")
    else:
        print(f"By {found['file']} {verb}:")
        for line in _lines(changes):
            print(line)
        print(f"\n{summary(changes)}")
    for warning in found["warnings"]:
        print(f"Note: {warning}")


def _lines(changes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for change in changes:
        yield f"  {change['what']} {change['name']}: {change['change']}, {change['effect']}"
        for setting in change["settings"]:
            name = "" if setting["name"] == change["name"] else f"{setting['name']}: "
            yield f"      {name}{_shown(setting['old'])} -> {_shown(setting['new'])}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def summary(changes: Sequence[Mapping[str, Any]]) -> str:
    """What that means for those who use it."""
    restarts = [change["name"] for change in changes if change["effect"] == RESTART]
    stops = [change["name"] for change in changes if change["effect"] == STOP]
    said = [f"{', '.join(restarts)}: restarted, after running answers."] if restarts else []
    said += [f"{', '.join(stops)}: ended, after running answers."] if stops else []
    said += ["All other models keep running."] if said else ["Every model keeps running."]
    if any(change["effect"] == LATER for change in changes):
        said.append(f"What {LATER} stays as it is until then.")
    return " ".join(said)
