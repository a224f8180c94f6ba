"""One connection to a systemd manager over D-Bus: calls, jobs, signals (org.freedesktop.systemd1(5)).

Owns the wire and its errors; what a unit's properties mean is `state.py`, what is done with them `handle.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Self

from dbus_fast import AuthError, DBusError, InvalidAddressError, Message, MessageType
from dbus_fast.aio import MessageBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

SYSTEMD = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
MANAGER, UNIT, SERVICE = f"{SYSTEMD}.Manager", f"{SYSTEMD}.Unit", f"{SYSTEMD}.Service"
PROPERTIES = "org.freedesktop.DBus.Properties"
DBUS, DBUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"

ANSWER_WITHIN = 60.0
"""Seconds for the reply to one call; a manager that reloads answers nothing meanwhile."""


# The bus is there, but no manager on it: none runs, or it is just executing itself anew (daemon-reexec).
_ABSENT = frozenset(f"{DBUS}.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner", "Disconnected"))


class BusLost(Exception):
    """There is no connection to a manager, or no more. `str()` says why."""


class Refused(Exception):
    """The manager answered with an error: `name` as in D-Bus, `str()` in its words."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words or name)
        self.name = name

    @property
    def not_allowed(self) -> bool:
        """Whether polkit said no."""
        return self.name.rpartition(".")[2] in {"InteractiveAuthorizationRequired", "AccessDenied", "AuthFailed"}


if TYPE_CHECKING:
    Signals = asyncio.Queue[Message | BusLost | None]
    """What a listener gets: signals, None to wake it, and in the end that the bus is lost."""


def bus_address(environ: Mapping[str, str], *, user: bool) -> str:
    """Where a manager is reached: on the system bus, or on this user's (D-Bus specification; pam_systemd(8))."""
    if not user:
        return environ.get("DBUS_SYSTEM_BUS_ADDRESS") or "unix:path=/run/dbus/system_bus_socket"
    if address := environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    return f"unix:path={environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/bus"


class Bus:
    """A connection. When it is lost, every call and every listener raises BusLost, and it stays so."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._listeners: dict[Signals, Callable[[Message], bool]] = {}
        self._lost: str | None = None
        self._gone = asyncio.get_running_loop().create_task(self._watch_end(), name="end of the bus")

    @classmethod
    async def connect(cls, address: str) -> Self:
        """Connects and subscribes to the manager's signals. Raises BusLost."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                bus = await MessageBus(address).connect()
        except (OSError, EOFError, AuthError, DBusError, InvalidAddressError, TimeoutError) as error:
            raise BusLost(_reason(error)) from error
        self = cls(bus)
        bus.add_message_handler(self._tell)
        try:
            await self._match(f"interface='{MANAGER}',member='JobRemoved'")
            await self.call("Subscribe")  # systemd sends no signals before this
        except Refused as error:
            await self.close()
            raise BusLost(str(error)) from error
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def lost(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._lost is not None

    async def close(self) -> None:
        """Ends the connection; references held through it (RefUnit) end with it."""
        if not self.lost:
            self._bus.disconnect()
        await asyncio.wait([self._gone])

    async def call(
        self, member: str, signature: str = "", *body: object, path: str = ROOT, interface: str = MANAGER
    ) -> Any:  # noqa: ANN401 -- a reply's first value is whatever its signature says
        """Calls a method of systemd; gives the first value of the reply. Raises Refused, BusLost."""
        return await self._call(
            Message(
                destination=SYSTEMD,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
        )

    async def job(self, member: str, signature: str, *body: object) -> str:
        """Calls a method that queues a job, and waits for its end. Gives its result: 'done', or why not.

        Raises Refused, BusLost.
        """
        # The listener comes first: JobRemoved can be read together with the reply that names the job.
        with self._listen(lambda message: message.member == "JobRemoved") as signals:
            job = await self.call(member, signature, *body)
            while True:
                removed = await signals.get()
                if isinstance(removed, BusLost):
                    raise removed
                if removed is not None and removed.body[1] == job:
                    result: str = removed.body[3]
                    return result

    async def properties(self, path: str) -> dict[str, Any]:
        """All properties of a service unit, by name. Raises Refused, BusLost."""
        found: dict[str, Any] = {}
        for interface in (UNIT, SERVICE):
            values = await self.call("GetAll", "s", interface, path=path, interface=PROPERTIES)
            found |= {name: value.value for name, value in values.items()}
        return found

    @contextlib.asynccontextmanager
    async def changes(self, path: str) -> AsyncIterator[Changes]:
        """What the manager signals of one unit. They are coalesced and repeated: read the unit anew on each."""
        rule = f"interface='{PROPERTIES}',member='PropertiesChanged',path='{path}'"
        with self._listen(lambda message: message.member == "PropertiesChanged" and message.path == path) as signals:
            await self._match(rule)
            try:
                yield Changes(signals)
            finally:
                if not self.lost:
                    with contextlib.suppress(Refused, BusLost):
                        await self._match(rule, "RemoveMatch")

    @contextlib.contextmanager
    def _listen(self, wanted: Callable[[Message], bool]) -> Iterator[Signals]:
        signals: Signals = asyncio.Queue()
        self._listeners[signals] = wanted
        if self._lost is not None:
            signals.put_nowait(BusLost(self._lost))
        try:
            yield signals
        finally:
            del self._listeners[signals]

    async def _match(self, rule: str, member: str = "AddMatch") -> None:
        body = [f"type='signal',sender='{SYSTEMD}',{rule}"]
        await self._call(
            Message(destination=DBUS, path=DBUS_PATH, interface=DBUS, member=member, signature="s", body=body)
        )

    async def _call(self, message: Message) -> Any:  # noqa: ANN401 -- see `call`
        if self._lost is not None:
            raise BusLost(self._lost)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                reply = await self._bus.call(message)
        except TimeoutError as error:
            raise BusLost(f"no answer to {message.member} within {ANSWER_WITHIN:.0f} s") from error
        except (OSError, EOFError) as error:
            raise BusLost(_reason(error)) from error
        if reply is None:  # the connection was closed while it waited
            raise BusLost("the connection was closed")
        if reply.message_type is MessageType.ERROR:
            words = str(reply.body[0]) if reply.body else ""
            if reply.error_name in _ABSENT:
                raise BusLost(words)
            raise Refused(reply.error_name or "", words)
        return reply.body[0] if reply.body else None

    def _tell(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL:
            for signals, wanted in self._listeners.items():
                if wanted(message):
                    signals.put_nowait(message)

    async def _watch_end(self) -> None:
        try:
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
            self._lost = "the connection was closed"
        except (OSError, EOFError) as error:
            self._lost = _reason(error)
        for signals in self._listeners:
            signals.put_nowait(BusLost(self._lost))


class Changes:
    """Signals about one unit."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    async def wait(self) -> None:
        """Until something changed since the last call. Raises BusLost."""
        news = [await self._signals.get()]
        while not self._signals.empty():
            news.append(self._signals.get_nowait())
        for lost in news:
            if isinstance(lost, BusLost):
                self._signals.put_nowait(lost)  # it stays so
                raise lost

    def wake(self) -> None:
        """Has `wait` return now."""
        self._signals.put_nowait(None)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or "the bus closed the connection"
