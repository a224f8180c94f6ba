"""`roundhouse chat`: talk to a model from the terminal.

The answer goes to stdout, all else to stderr, so that a pipe gets the answer alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from roundhouse.cli.exits import Usage
from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, ModelArgument, UrlOption

if TYPE_CHECKING:
    from roundhouse.cli.client import Client
    from roundhouse.cli.conversation import Message

HINT = "Ctrl-C stops an answer, Ctrl-D or a second Ctrl-C leaves; /new forgets what was said."


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: git diff | roundhouse chat smollm2-135m --system 'Describe this change.'")(chat)


def chat(
    model: ModelArgument,
    message: Annotated[
        str | None, typer.Argument(help="What to say; default: from a pipe, else a conversation.", show_default=False)
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model, or talk to it, and see what it is waiting for and how fast it is."""
    from roundhouse.cli.client import Client

    client = Client(url, key)
    begin: list[Message] = [{"role": "system", "content": system}] if system else []
    if message is None and sys.stdin.isatty():
        if as_json:
            raise Usage("--json needs a MESSAGE, or one from a pipe.")
        _talk(client, model, begin)
        return
    said = sys.stdin.read() if message in {None, "-"} else message
    if not said or not said.strip():
        raise Usage("There is no message: give one after the model's name, or pipe one in.")
    messages = [*begin, {"role": "user", "content": said}]
    if as_json:
        _print_whole(client, model, messages)
    else:
        _once(client, model, messages)


def _once(client: Client, model: str, messages: list[Message]) -> None:
    from roundhouse.cli.telling import Telling

    with Telling() as telling:
        telling.tell(client, model, messages)


def _print_whole(client: Client, model: str, messages: list[Message]) -> None:
    from roundhouse.cli.conversation import whole
    from roundhouse.cli.screen import err, print_json

    console = err()
    if not console.is_terminal:
        print_json(whole(client, model, messages))
        return
    with console.status("waiting for the whole answer"):
        found = whole(client, model, messages)
    print_json(found)


def _talk(client: Client, model: str, begin: list[Message]) -> None:
    """A conversation, until its user leaves. Raises what makes any further try useless."""
    import readline  # noqa: F401 - gives input() editing and history
    from urllib.parse import quote

    client.get(f"/v1/models/{quote(model, safe='/')}")  # a wrong name is better told before the first question
    print(HINT, file=sys.stderr)
    messages = list(begin)
    while True:
        try:
            said = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        if said == "/new":
            messages = list(begin)
        elif said:
            messages = _turn(client, model, [*messages, {"role": "user", "content": said}])


def _turn(client: Client, model: str, messages: list[Message]) -> list[Message]:
    """Answers the last message; gives the conversation as it is then. A question without any answer is not kept."""
    from roundhouse.cli.exits import Failed, Refused
    from roundhouse.cli.telling import Telling

    with Telling() as telling:
        try:
            telling.tell(client, model, messages)
        except KeyboardInterrupt:
            telling.remark("stopped")
        except (Failed, Refused) as error:
            telling.remark(error.message)
        if not telling.text:
            return messages[:-1]
        return [*messages, {"role": "assistant", "content": telling.text}]
