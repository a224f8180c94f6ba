"""The connection to a manager: jobs, signals, errors, and its end."""

from __future__ import annotations

import asyncio

import pytest
from dbus_fast import Message, MessageType

from roundhouse.launchers.systemd.bus import MANAGER, Bus, BusLost, Refused, bus_address

ADDRESS = "unix:path=/run/dbus/system_bus_socket"


@pytest.fixture
async def bus():
    made = await Bus.connect(ADDRESS)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("environ", "user", "address"),
    [
        ({}, False, ADDRESS),
        ({"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/x"}, False, "unix:path=/x"),
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/y", "XDG_RUNTIME_DIR": "/z"}, True, "unix:path=/y"),
        ({"XDG_RUNTIME_DIR": "/z"}, True, "unix:path=/z/bus"),
    ],
)
def test_where_a_manager_is_reached(environ, user, address):
    assert bus_address(environ, user=user) == address


@pytest.mark.parametrize("address", ["unix:path=/nowhere", "nonsense", "unix:path=/dev/null"])
async def test_no_bus_is_told_in_words(address):
    with pytest.raises(BusLost) as caught:
        await Bus.connect(address)
    assert str(caught.value)


def test_a_refusal_knows_whether_it_is_about_rights():
    assert Refused("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "x").not_allowed
    assert not Refused("org.freedesktop.systemd1.NoSuchUnit", "x").not_allowed
    assert str(Refused("org.freedesktop.systemd1.NoSuchUnit", "")) == "org.freedesktop.systemd1.NoSuchUnit"


@pytest.mark.inside_lab
async def test_trap_1_a_job_that_is_over_before_its_name_is_known_is_not_missed(bus, monkeypatch):
    def removed(job):
        path, body = "/org/freedesktop/systemd1", [1, job, "x.service", "done"]
        return Message(
            message_type=MessageType.SIGNAL,
            path=path,
            interface=MANAGER,
            member="JobRemoved",
            signature="uoss",
            body=body,
        )

    async def call(*_):
        bus._tell(removed("/job/0"))
        bus._tell(removed("/job/1"))
        return "/job/1"

    monkeypatch.setattr(bus, "call", call)
    async with asyncio.timeout(5):
        assert await bus.job("StartUnit", "ss", "x.service", "replace") == "done"


@pytest.mark.inside_lab
async def test_trap_1_signals_come_because_they_are_subscribed_to(bus, box):
    unit = box.unit("[Service]\nExecStart=/bin/sleep 1000\n")
    path = await bus.call("LoadUnit", "s", unit)
    async with bus.changes(path) as changes, asyncio.timeout(10):
        assert await bus.job("StartUnit", "ss", unit, "replace") == "done"
        await changes.wait()
        assert (await bus.properties(path))["ActiveState"] == "active"
        changes.wake()
        await changes.wait()


@pytest.mark.inside_lab
async def test_a_job_that_fails_gives_its_result(bus, box):
    unit = box.unit("[Service]\nType=notify\nExecStart=/bin/false\n")
    assert await bus.job("StartUnit", "ss", unit, "replace") == "failed"


@pytest.mark.inside_lab
async def test_what_the_manager_refuses_is_raised(bus):
    with pytest.raises(Refused, match="not found"):
        await bus.call("StartUnit", "ss", "nosuchunit.service", "replace")


@pytest.mark.inside_lab
async def test_everything_ends_with_the_connection(box):
    bus = await Bus.connect(ADDRESS)
    unit = box.unit("[Service]\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/true\n")
    path = await bus.call("LoadUnit", "s", unit)
    starting = asyncio.get_running_loop().create_task(bus.job("StartUnit", "ss", unit, "replace"))
    async with bus.changes(path) as changes:
        await changes.wait()
        box.lab.systemctl("restart", "dbus.service")
        with pytest.raises(BusLost):
            await starting
        for _ in range(2):
            with pytest.raises(BusLost):
                await changes.wait()
    assert bus.lost
    with pytest.raises(BusLost):
        await bus.call("Subscribe")
    with pytest.raises(BusLost):
        await bus.job("StartUnit", "ss", unit, "replace")
    await bus.close()
