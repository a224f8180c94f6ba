"""Options that several commands have, declared once so that they read and behave the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roundhouse.cli.completion import model_names

DEFAULT_URL = "http://127.0.0.1:8002"

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file; default: searched for.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", envvar="ROUNDHOUSE_API_KEY", help="API key, where keys are configured.", show_default=False),
]
ModelArgument = Annotated[
    str, typer.Argument(help="Id or alias of a model.", show_default=False, autocompletion=model_names)
]
UrlOption = Annotated[str, typer.Option("--url", envvar="ROUNDHOUSE_URL", help="Where Roundhouse answers.")]
