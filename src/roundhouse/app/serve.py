"""`roundhouse serve`: adopt, serve, drain, stop, close; and the exit code."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import uvloop

from roundhouse.app import caches
from roundhouse.app.hold import hold_engines
from roundhouse.app.sockets import notify, open_sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from roundhouse.app.hold import Held
    from roundhouse.app.house import House
    from roundhouse.config.models import Config
    from roundhouse.observe.redact import Secrets


def serve(
    config: Config, started: Callable[[House], None] = lambda _house: None, secrets: Secrets | None = None
) -> None:
    """Runs until SIGINT or SIGTERM; `started` is called once the port is open.

    `secrets` are what the log hides; engines' own keys are added as they are read.

    Raises:
        RouterError: it could not start (port taken, folder in use, ...).
    """
    sockets = open_sockets(config.listen, os.environ)
    os.environ.update(caches.variables(os.environ, config.state_dir))  # engines inherit it, below a keeper or in a unit
    try:
        uvloop.run(_serve(config, sockets, started, secrets))
    finally:
        for one in sockets:
            one.close()


async def _serve(
    config: Config, sockets: list[socket.socket], started: Callable[[House], None], secrets: Secrets | None
) -> None:
    async with hold_engines(config, os.environ) as held:
        await _serve_held(config, sockets, started, held, secrets)


async def _serve_held(
    config: Config,
    sockets: list[socket.socket],
    started: Callable[[House], None],
    held: Held,
    secrets: Secrets | None,
) -> None:
    # Loading the web framework takes longer than all the rest: the engines of an earlier run are held by now.
    from roundhouse.api.server import make_server, protocol  # noqa: PLC0415 -- see above
    from roundhouse.app.hangup import Hangup  # noqa: PLC0415
    from roundhouse.app.house import House  # noqa: PLC0415
    from roundhouse.dialects.failures import error_body  # noqa: PLC0415

    async with House(config, os.environ, held, secrets) as house:
        http = protocol(config.limits.headers, config.limits.header_timeout, error_body)
        tls = (config.tls.cert, config.tls.key) if config.tls else None
        server = make_server(house.app, drain=config.shutdown.drain, http=http, closing=house.closing, tls=tls)

        def opened() -> None:
            notify(os.environ, "READY=1\nSTATUS=serving")
            started(house)

        server.on_started = opened
        loop = asyncio.get_running_loop()
        petting = loop.create_task(_watchdog(), name="watchdog")
        hangup = Hangup(os.environ, house.reloader, house.tasks, server.end)
        loop.add_signal_handler(signal.SIGHUP, hangup.heard)
        try:
            await server.serve(sockets)
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            petting.cancel()
            notify(os.environ, "STOPPING=1")


async def _watchdog() -> None:
    """Tells systemd's watchdog that the loop runs, at a third of its limit (sd_watchdog_enabled(3))."""
    limit = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while limit:
        notify(os.environ, "WATCHDOG=1")
        await asyncio.sleep(limit / 3)
