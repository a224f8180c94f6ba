"""An engine whose own API is a WebSocket: it says back what it hears, and does what it is told to in words.

`die` kills it, `close CODE REASON` closes, `big N` sends N bytes of text, `flood N` N messages of 100 kB. At `/refuse` it
answers the handshake with 403. What it is asked, and how its clients went, it appends to `--record` as lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def run(options: argparse.Namespace) -> None:
    def note(what: str, **more: object) -> None:
        with Path(options.record).open("a") as file:
            file.write(json.dumps({"what": what, "pid": os.getpid(), **more}) + "\n")

    async def talk(connection) -> None:
        request = connection.request
        note("open", path=request.path, headers=[[k.lower(), v] for k, v in request.headers.raw_items()])
        try:
            async for message in connection:
                note("heard", size=len(message))
                await obey(connection, message)
        except ConnectionClosed:
            pass
        note("closed", code=connection.close_code, reason=connection.close_reason)

    async def obey(connection, message) -> None:
        words = message.split(" ", 2) if isinstance(message, str) else [""]
        match words:
            case ["die"]:
                os._exit(9)
            case ["close", code, reason]:
                await connection.close(int(code), reason)
            case ["big", size]:
                await connection.send("x" * int(size))
            case ["flood", count]:
                for number in range(int(count)):
                    await connection.send("y" * 100_000)
                    note("flooded", number=number)
            case _:
                await connection.send(message)

    def answer(connection, request):
        if request.path == "/health":
            while options.gate and not Path(options.gate).exists():
                return connection.respond(503, "loading\n")
            return connection.respond(200, "ok\n")
        return connection.respond(403, "not here\n") if request.path.startswith("/refuse") else None

    note("start")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
    async with serve(
        talk,
        "127.0.0.1",
        options.port,
        select_subprotocol=lambda _connection, offered: "second" if "second" in offered else None,
        process_request=answer,
        max_size=None,
        compression=None,
        open_timeout=None,
    ) as server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", required=True, help="file for notes")
    parser.add_argument("--gate", default="", help="file that ends the load")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
