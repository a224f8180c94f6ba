"""`roundhouse demo`: real models behind one endpoint, with nothing to configure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse demo --listen 127.0.0.1:8002")(demo)


def demo(
    listen: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1:8002",
    cache: Annotated[
        Path | None, typer.Option(help="Folder for downloads; default: ~/.cache/roundhouse/demo.", show_default=False)
    ] = None,
) -> None:
    """Fetch two small chat models and an embedding model, and serve them with a real llama-server."""
    from roundhouse.demo.run import demo as run
    from roundhouse.observe.log import configure

    configure()
    run(listen, cache)
