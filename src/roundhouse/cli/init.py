"""`roundhouse init`: a configuration file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roundhouse.cli.exits import Failed
from roundhouse.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse init && roundhouse check")(init)


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("roundhouse.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a configuration file to start from. It never writes over one unless told to."""
    from roundhouse.cli.screen import print_json
    from roundhouse.config.starter import text

    if path.is_dir():
        path /= "roundhouse.yaml"
    try:
        # Mode x: the file may come into being between a look and the writing.
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text())
    except FileExistsError:
        raise Failed(f"{path} exists already and was left as it is; --force writes over it.") from None
    except OSError as error:
        raise Failed(f"Can't write {path}: {error.strerror}.") from None
    if as_json:
        print_json({"path": str(path.absolute())})
        return
    print(f"Wrote {path}. Name your models in it, then: roundhouse check --config {path}")
