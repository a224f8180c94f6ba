"""`roundhouse keys`: who may ask, how much, and what they have used, whether Roundhouse runs or not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from roundhouse.cli.options import DEFAULT_URL, ConfigOption, JsonOption, KeyOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from rich.text import Text

    from roundhouse.api.keyholder import Keyholder

PATH = "/api/v1/keys"
NameArgument = Annotated[str, typer.Argument(help="The key's name.", show_default=False)]
Several = list[str] | None
Found = TypeVar("Found")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="Who may ask, how much, and what they have used.", no_args_is_help=True)
    group.command("list", epilog="Example: roundhouse keys list")(list_keys)
    group.command(epilog="Example: roundhouse keys add kid --model smol --requests 60/m --tokens 200k/d")(add)
    group.command(epilog="Example: roundhouse keys revoke kid")(revoke)
    group.command(epilog="Example: roundhouse keys rotate open-webui --grace 1h")(rotate)
    app.add_typer(group, name="keys")


def list_keys(
    url: UrlOption = DEFAULT_URL, key: KeyOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the keys of the configuration file and those made here, with what they have used. Secrets are not kept."""
    from roundhouse.cli import screen
    from roundhouse.cli.client import Client

    found = _either(lambda: Client(url, key).get(PATH)["keys"], config, lambda holder: holder.told())
    if as_json:
        screen.print_json(found)
    elif not found:
        print(
            "No keys: everybody who reaches Roundhouse may do everything. `roundhouse keys add NAME --admin` makes one."
        )
    else:
        names = ("KEY", "FROM", "MAY", "MODELS", "LIMITS", "TODAY", "TOTAL", "LAST USED", "EXPIRES")
        screen.out().print(screen.table(names, _rows(found)))


def add(
    name: NameArgument,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    config: ConfigOption = None,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    manage: Annotated[bool, typer.Option("--manage", help="May load and unload models.")] = False,
    trusted: Annotated[bool, typer.Option("--trusted", help="Its headers that name users are believed.")] = False,
    model: Annotated[Several, typer.Option("--model", help="A model it may use, `*` for any text; repeatable.")] = None,
    api: Annotated[Several, typer.Option("--api", help="openai, anthropic or ollama; repeatable.")] = None,
    requests: Annotated[str | None, typer.Option(help="Most requests, as in 60/m or 1k/d.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Most tokens, as in 100k/m or 1M/d.")] = None,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    status: Annotated[str | None, typer.Option(help="Where status goes: event, content, off, …")] = None,
    expires: Annotated[str | None, typer.Option(help="From when on it is refused, as in 2027-01-31.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is shown once; only a hash is kept. The first one has to be an admin's."""
    from roundhouse.cli.client import Client

    rate = {kind: most for kind, most in (("requests", requests), ("tokens", tokens)) if most is not None}
    wanted: dict[str, Any] = {
        "admin": admin, "manage": manage, "trusted": trusted, "models": model, "apis": api, "rate": rate,
        "priority": priority, "status": status, "expires": expires,
    }  # fmt: skip
    settings = {what: value for what, value in wanted.items() if value not in (None, False, 0, {})}

    async def here(holder: Keyholder) -> str:
        return await holder.add(name, settings)

    secret = _either(lambda: Client(url, key).post(PATH, {"name": name, **settings})["key"], config, here)
    _show(name, secret, as_json)


def revoke(
    name: NameArgument,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    config: ConfigOption = None,
    last: Annotated[bool, typer.Option("--last", help="Also the only key, after which none is needed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key: from the next request on it is unknown. Answers that run go on."""
    from roundhouse.cli.client import Client
    from roundhouse.cli.screen import print_json

    async def here(holder: Keyholder) -> bool:
        return await holder.revoke(name, last=last)

    path = f"{_path(name)}{'?last=true' if last else ''}"
    opened = _either(lambda: Client(url, key).delete(path)["open"], config, here)
    if as_json:
        print_json({"name": name, "open": opened})
    else:
        print(f"{name} is revoked." + (" No key is left: everybody may do everything now." if opened else ""))


def rotate(
    name: NameArgument,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    config: ConfigOption = None,
    grace: Annotated[str, typer.Option(help="How long the former secret stays good, as in 1h.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Give a key another secret."""
    from roundhouse.cli.client import Client
    from roundhouse.cli.exits import Usage
    from roundhouse.config.units import duration

    try:
        seconds = duration(grace) if grace else 0.0
    except ValueError as error:
        raise Usage(f"--grace: {error}.") from None

    async def here(holder: Keyholder) -> str:
        return await holder.rotate(name, seconds)

    path = f"{_path(name)}/rotate{f'?grace={quote(grace)}' if grace else ''}"
    _show(name, _either(lambda: Client(url, key).post(path)["key"], config, here), as_json)


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"


def _show(name: str, secret: str, as_json: bool) -> None:
    from roundhouse.cli.screen import print_json

    if as_json:
        print_json({"name": name, "key": secret})
    else:
        print(f"The key of {name}, shown this once:", file=sys.stderr)
        print(secret)


def _either(running: Callable[[], Found], config: Path | None, here: Callable[[Keyholder], Awaitable[Found]]) -> Found:
    """Asks the Roundhouse that runs; where none answers, its files are looked into directly, if nobody holds them."""
    import asyncio

    from roundhouse.cli.exits import NotRunning, Refused, Usage
    from roundhouse.errors import BadRequest, Conflict, NotFound

    try:
        return running()
    except NotRunning:
        from roundhouse.app.keyring import open_keys
        from roundhouse.cli.serve import read_config
        from roundhouse.runtime.lock import state_lock

        found = read_config(config)

        async def look() -> Found:
            async with open_keys(found) as holder:
                return await here(holder)

        try:
            with state_lock(found.state_dir):
                return asyncio.run(look())
        except (Conflict, NotFound) as error:
            raise Refused(error.message) from None
        except BadRequest as error:
            raise Usage(error.message) from None


def _rows(keys: list[Mapping[str, Any]]) -> Iterator[tuple[str | Text, ...]]:
    for key in keys:
        may = "everything" if key["admin"] else "manage" if key["manage"] else ", ".join(key["apis"])
        limits = ", ".join(f"{limit['left']} of {limit['limit']} {kind}" for kind, limit in key["limits"].items())
        expires = f"{key['expires'][:10]}{' (expired)' if key['expired'] else ''}" if key["expires"] else ""
        last = (key["last_used"] or "never")[:16].replace("T", " ")
        used = (f"{part['requests']} · {_tokens(part)} tokens" for part in (key["today"], key["total"]))
        yield key["name"], key["source"], may, ", ".join(key["models"]), limits, *used, last, expires


def _tokens(use: Mapping[str, int]) -> int:
    return use["prompt_tokens"] + use["completion_tokens"]
