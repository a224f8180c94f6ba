"""The controller's end of the keeper protocol: one connection, its messages, and the keeper's life.

The protocol itself is described in `keeper.py`. Knows nothing of what is started or why.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Self

from roundhouse.launchers import keeper

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_MESSAGE = 1 << 20  # bytes; the keeper's chunks of output are far below
ANSWER_WITHIN = 10.0  # seconds; a keeper answers in less than a millisecond unless the machine is stuck

Message = dict[str, object]


class KeeperLost(Exception):
    """The keeper has ended, or does not answer."""


class KeeperRefused(Exception):
    """The keeper does not serve us; the text is its reason."""


def peer_pid(sock: socket.socket) -> int:
    """Who listens at the other end of a connected unix socket (SO_PEERCRED, unix(7))."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, keeper.SIZE_OF_UCRED)
    return int.from_bytes(credentials[:4], sys.byteorder)


async def readable(fd: int) -> None:
    """Waits until there is something to read; for a pidfd: until the process has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


class Link:
    """A connection to a keeper. Made by `open`; ends with `close`.

    Attributes:
        keeper: the keeper's pid.
    """

    def __init__(self, install: str, sock: socket.socket) -> None:
        self.keeper = peer_pid(sock)
        self._install = install
        self._pidfd = os.pidfd_open(self.keeper)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, path: Path, install: str) -> Self:
        """Connects. Raises ConnectionRefusedError or FileNotFoundError when no keeper is there, or KeeperLost."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, str(path))
            link = cls(install, sock)
        except ProcessLookupError as error:
            sock.close()
            raise KeeperLost("it ended while we connected") from error
        except BaseException:
            sock.close()
            raise
        link._reader, link._writer = await asyncio.open_unix_connection(sock=sock, limit=LONGEST_MESSAGE)
        return link

    def tell(self, do: str, **fields: object) -> None:
        """Sends a request whose answer comes with the news, if at all."""
        request = {"v": keeper.VERSION, "do": do, "install": self._install, **fields}
        self._writer.write(json.dumps(request).encode() + b"\n")

    async def ask(self, do: str, **fields: object) -> Message:
        """Sends a request and awaits its answer. Raises KeeperLost and KeeperRefused."""
        self.tell(do, **fields)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await self.receive()
        except TimeoutError as error:
            raise KeeperLost(f"it did not answer within {ANSWER_WITHIN:.0f} s") from error
        if answer is None:
            raise KeeperLost("it ended")
        if answer["is"] == "refused":
            raise KeeperRefused(str(answer.get("reason")))
        return answer

    async def receive(self) -> Message | None:
        """The next message; None when the connection is over."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):  # reset; or a line longer than any keeper sends
            return None
        if not line.endswith(b"\n"):
            return None
        message: Message = json.loads(line)
        return message

    async def release(self) -> None:
        """Lets go in so many words, and closes."""
        self.tell("release")
        try:
            await self._writer.drain()
        except OSError:
            pass  # it has ended: as good as released
        self.close()

    async def gone(self) -> None:
        """Waits until the keeper process has ended."""
        await readable(self._pidfd)

    def terminate(self) -> None:
        """SIGTERM to the keeper, on which it ends its engine and itself."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has ended already

    def kill(self) -> None:
        """SIGKILL to the keeper; with it goes the engine's main process, and the rest must be swept."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended already

    def close(self) -> None:
        """Closes the connection; the keeper's clock runs from here. Once or more."""
        self._writer.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
