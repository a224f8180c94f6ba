"""The controller's connection: what it says when the keeper is none, gone, silent or refuses."""

from __future__ import annotations

import asyncio
import socket

import pytest

from roundhouse.launchers.link import KeeperLost, KeeperRefused, Link
from tests.support.keeper_client import RawKeeper


@pytest.fixture
def listener(runtime):
    """A socket on which no keeper is."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(runtime / "x.sock"))
        sock.listen()
        yield sock


async def test_no_keeper_there(runtime, listener):
    with pytest.raises(FileNotFoundError):
        await Link.open(runtime / "none.sock", "i")
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        await Link.open(runtime / "x.sock", "i")


async def test_refusal_has_the_keepers_reason(runtime, install):
    keeper = RawKeeper(runtime, install)
    link = await Link.open(keeper.socket, "another")
    with pytest.raises(KeeperRefused, match="another installation"):
        await link.ask("state")
    link.close()
    keeper.end()


async def test_keeper_that_ends_is_lost(runtime, install):
    keeper = RawKeeper(runtime, install)
    link = await Link.open(keeper.socket, install)
    keeper.end()
    await link.gone()
    with pytest.raises(KeeperLost, match="it ended"):
        await link.ask("state")
    await link.release()
    link.close()


async def test_silent_keeper_is_lost(runtime, listener, monkeypatch):
    monkeypatch.setattr("roundhouse.launchers.link.ANSWER_WITHIN", 0.01)
    link = await Link.open(runtime / "x.sock", "i")
    with pytest.raises(KeeperLost, match="did not answer"):
        await link.ask("state")
    link.close()


@pytest.mark.parametrize("answer", [b"half a line", b"x" * (1 << 21) + b"\n", b""])
async def test_nonsense_ends_the_connection(runtime, listener, answer):
    link = await Link.open(runtime / "x.sock", "i")
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    peer, _ = await loop.sock_accept(listener)

    async def answer_and_close():
        try:
            await loop.sock_sendall(peer, answer)
        except OSError:
            pass
        peer.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(answer_and_close())
        assert await link.receive() is None
        link.close()
