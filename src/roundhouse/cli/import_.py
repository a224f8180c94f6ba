"""`roundhouse import`: other programs' configurations as one of ours."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundhouse.cli.exits import Failed, Refused, Usage
from roundhouse.cli.options import JsonOption

if TYPE_CHECKING:
    from roundhouse.config.importers.result import Imported


class Source(StrEnum):
    """What is imported."""

    ORIGINAL = "original"
    LLAMA_SWAP = "llama-swap"
    OLLAMA = "ollama"
    FOLDER = "folder"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("import", epilog="Example: roundhouse import model_router.py --output roundhouse.yaml")(import_)


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="The original router's Python file or config.json, a llama-swap configuration, Ollama's store "
            "(~/.ollama), or a folder of models.",
            show_default=False,
        ),
    ],
    kind: Annotated[
        Source | None, typer.Option("--from", help="What SOURCE is; default: detected.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: printed.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    inline: Annotated[
        bool,
        typer.Option("--inline", help="Turn the original's simple scripts into `path` and `args`, without units."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn another program's configuration into one of ours. Nothing of it is run or changed.

    What could not be carried over is told on stderr, and in comments beside the model it concerns. SOURCE itself stays
    as it is.
    """
    from roundhouse.cli.screen import print_json
    from roundhouse.config.importers.choose import read
    from roundhouse.config.importers.writing import text

    if inline and kind not in {None, Source.ORIGINAL}:
        raise Usage(f"--inline is about the original's start scripts; leave it out with --from {kind}.")
    imported = read(source, kind.value if kind else None, os.environ, inline=inline)
    written = text(imported)
    warnings = proven(imported, written, output)
    if output is not None:
        write(output, written, force=force, secret=imported.secret)
    if as_json:
        print_json(
            {
                "source": str(imported.source),
                "from": imported.kind,
                "output": str(output.absolute()) if output else None,
                "models": list(imported.models),
                "not_carried_over": list(imported.all_lost()),
                "advice": [*imported.all_advice(), *warnings],
                "variables": list(imported.variables),
                "config": None if output else written,
            }
        )
        return
    if output is None:
        print(written, end="")
    tell(imported, warnings, output)


def proven(imported: Imported, written: str, output: Path | None) -> tuple[str, ...]:
    """The loader's warnings about what was made. Raises ConfigError if it is no configuration."""
    from roundhouse.config.load import parse
    from roundhouse.errors import ConfigError

    env = {**dict.fromkeys(imported.variables, "unset"), **os.environ}
    try:
        return parse(written, output or Path("roundhouse.yaml"), env).warnings
    except ConfigError as error:
        problems = "\n".join(line.partition(": ")[2] for line in error.message.splitlines())
        raise ConfigError(f"{imported.source}: makes no valid configuration; correct there:\n{problems}") from None


def write(path: Path, text: str, *, force: bool, secret: bool) -> None:
    """Writes the whole file or nothing; one with keys in it can be read by its owner only. Raises Refused, Failed."""
    if path.is_dir():
        raise Failed(f"{path} is a folder; name a file in it, such as {path / 'roundhouse.yaml'}.")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            # A link fails where the name is taken, also if it was taken this very moment.
            (beside.replace if force else path.hardlink_to)(path if force else beside)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError:
        raise Refused(f"{path} exists already and was left as it is; --force writes over it.") from None
    except OSError as error:
        raise Failed(f"Can't write {path}: {error.strerror}.") from None


def tell(imported: Imported, warnings: tuple[str, ...], output: Path | None) -> None:
    """The summary, on stderr."""
    lines = [f"not carried over: {sentence}" for sentence in imported.all_lost()]
    lines += [f"advice: {sentence}" for sentence in (*imported.all_advice(), *warnings)]
    if imported.variables:
        lines.append(f"needs in its environment: {', '.join(imported.variables)}")
    count = "1 model" if len(imported.models) == 1 else f"{len(imported.models)} models"
    where = f" Wrote {output}. Next: roundhouse check --config {output}" if output else ""
    lines.append(f"imported {count} from {imported.source} ({imported.kind}).{where}")
    for line in lines:
        print(f"roundhouse: {line}", file=sys.stderr)
