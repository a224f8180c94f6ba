"""Launcher `process`: engines as child processes, each under a keeper that outlives Roundhouse (spec E1-E3).

Owns keepers, their spare and their files. A running engine is a handle (`handle.py`); the protocol's wire is `link.py`,
its other side `keeper.py`. Knows no engine: a command is run as given.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import secrets
import signal
import socket
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from roundhouse.errors import ConfigError, LoadFailed
from roundhouse.launchers import keeper, strays
from roundhouse.launchers.handle import ProcessHandle
from roundhouse.launchers.link import ANSWER_WITHIN, KeeperLost, KeeperRefused, Link, peer_pid, readable
from roundhouse.ports import Tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from roundhouse.launchers.link import Message
    from roundhouse.ports import Command, Handle

LONGEST_SOCKET_PATH = 107  # bytes; sun_path of unix(7) less its final NUL
NOT_PASSED_ON = re.compile(r"NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*")  # what systemd gave to Roundhouse alone

log = logging.getLogger(__name__)


def default_runtime_dir(environ: Mapping[str, str]) -> Path:
    """Where sockets go: `$XDG_RUNTIME_DIR/roundhouse`, else `/run/roundhouse` if it can be ours, else in /tmp."""
    if xdg := environ.get("XDG_RUNTIME_DIR"):
        return Path(xdg) / "roundhouse"
    run = Path("/run/roundhouse")
    if os.access(run if run.exists() else run.parent, os.W_OK):
        return run
    return Path(f"/tmp/roundhouse-{os.getuid()}")  # noqa: S108 -- private folder, its owner and mode are checked before use


def engine_environment(
    inherited: Mapping[str, str], added: Mapping[str, str], install: str, tag: Tag
) -> dict[str, str]:
    """What an engine gets: the inherited environment less what is meant for Roundhouse, the command's, our marks.

    SPT_NOENV keeps setproctitle from overwriting the environment, and with it the marker, in /proc (SGLang uses it).
    """
    kept = {name: value for name, value in inherited.items() if not NOT_PASSED_ON.fullmatch(name)}
    marks = {strays.MARKER: f"{install}:{tag.model}", "SPT_NOENV": "1", "PORT": str(tag.port)}
    return {**kept, **added, **marks}


@dataclass(frozen=True, slots=True)
class Place:
    """A keeper's files: its socket, and the engine's output."""

    socket: Path
    log: Path

    def remove(self) -> None:
        """Deletes what a dead keeper left."""
        for path in (self.socket, self.log, Path(f"{self.log}.1")):
            path.unlink(missing_ok=True)


class ProcessLauncher:
    """Starts engines under keepers, and finds those that run already. An async context manager.

    One idle keeper is held in reserve, so that starting an engine doesn't wait for a Python to start.
    On exit engines are left to their keepers, which end them after `orphan_grace`.

    Args:
        runtime_dir: folder of the sockets; made with mode 0700.
        log_dir: folder of the engines' kept output.
        install_id: of this installation; keepers of others are left alone. No colon, no NUL.
        orphan_grace: seconds that an engine outlives its Roundhouse.
        python: the interpreter keepers run on.
        spare: whether to hold a keeper in reserve.
        term_grace: seconds between SIGTERM and SIGKILL when a keeper ends an orphaned engine.
        log_limit: bytes of output kept on disk per engine.
    """

    running = stays = False

    def __init__(
        self,
        runtime_dir: Path,
        log_dir: Path,
        install_id: str,
        orphan_grace: float,
        python: str = sys.executable,
        *,
        spare: bool = True,
        term_grace: float = 5.0,
        log_limit: int = 4 << 20,
    ) -> None:
        self._runtime_dir, self._log_dir = runtime_dir.absolute(), log_dir.absolute()
        self._install = install_id
        self._orphan_grace, self._term_grace, self._log_limit = orphan_grace, term_grace, log_limit
        self._python = python
        self._wants_spare = spare
        self._spare: asyncio.Task[tuple[Link, Place]] | None = None
        self._children: dict[int, int] = {}  # keepers that we started and must reap: pid to pidfd
        self._handles: dict[asyncio.Task[None], ProcessHandle] = {}
        self._sockets: set[Path] = set()  # of keepers that we control

    async def __aenter__(self) -> Self:
        """Makes the folders. Raises ConfigError when the socket's path can't be used."""
        longest = len(os.fsencode(self._place().socket))
        if longest > LONGEST_SOCKET_PATH:
            raise ConfigError(
                f"The runtime folder {self._runtime_dir} makes socket paths of {longest} bytes; the system allows "
                f"{LONGEST_SOCKET_PATH}. Set XDG_RUNTIME_DIR to a shorter path."
            )
        _make_private(self._runtime_dir)
        self._log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._refill()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the spare and lets go of all engines."""
        if self._spare is not None:
            await self._discard(self._spare)
        for handle in list(self._handles.values()):
            await handle.detach()
        for pid in list(self._children):
            self._reap(pid)

    async def start(self, tag: Tag, command: Command) -> ProcessHandle:
        """Starts the engine. Raises LoadFailed with the reason if it can't even be started."""
        try:
            cwd = command.cwd or os.getcwd()  # noqa: PTH109 -- the keeper takes a string
            return await self._go(*await self._take(), tag, command, cwd)
        except (OSError, KeeperLost, KeeperRefused) as error:
            raise LoadFailed(f"The keeper process for '{tag.model}' could not be started: {error}") from error
        finally:
            self._refill()

    async def clear(self, command: Command) -> None:
        """Nothing: every engine is a process of its own, in no place that another could hold."""

    async def found(self) -> list[Handle]:
        """Engines of this installation that keepers hold: running, or ended with an exit that nobody has read yet.

        Also removes what dead keepers left: their files, and engine processes that carry our marker.
        """
        handles: list[Handle] = []
        for path in sorted(self._runtime_dir.glob("*.sock")):
            if path in self._sockets:
                continue
            place = self._place(path.stem)
            try:
                handle = await self._adopt(place)
            except (KeeperLost, KeeperRefused, FileNotFoundError) as reason:
                log.debug("%s: not ours to adopt: %s", path, reason)
                continue
            except ConnectionRefusedError:
                place.remove()
                continue
            if handle is not None:
                handles.append(handle)
        self._remove_logs()
        await self._sweep()
        return handles

    async def _go(self, link: Link, place: Place, tag: Tag, command: Command, cwd: str) -> ProcessHandle:
        told = {"argv": command.argv, "cwd": cwd, "tag": asdict(tag), "eof_ends": command.eof_ends}
        try:
            answer = await link.ask("go", env=engine_environment(os.environ, command.env, self._install, tag), **told)
        except BaseException:
            self._give_up(link, place)
            raise
        if answer["is"] == "failed":
            self._give_up(link, place)
            raise LoadFailed(_why_not_started(tag, command, cwd, answer))
        return self._hold(link, place, tag, answer["pid"])

    async def _adopt(self, place: Place) -> ProcessHandle | None:
        """Takes over an engine; None for a keeper that holds none: a spare, which ends with its Roundhouse."""
        link = await Link.open(place.socket, self._install)
        try:
            state = await link.ask("state")  # asked first, as attaching would throw out another controller
            if state["tag"] is None:
                link.close()
                return None
            state = await link.ask("attach", offset=0)
            return self._hold(link, place, _tag_of(state["tag"]), state["pid"])
        except BaseException:
            link.close()
            raise

    def _hold(self, link: Link, place: Place, tag: Tag, pid: object) -> ProcessHandle:
        assert isinstance(pid, int)
        handle = ProcessHandle(link, tag, pid, place.log, self._sweep)
        self._sockets.add(place.socket)
        task = handle.follow()
        self._handles[task] = handle
        task.add_done_callback(lambda task: self._let_go(task, place))
        return handle

    def _let_go(self, task: asyncio.Task[None], place: Place) -> None:
        del self._handles[task]
        self._sockets.discard(place.socket)

    def _give_up(self, link: Link, place: Place) -> None:
        """Has a keeper end now; by a signal, as closing loses our words while an answer of its is unread."""
        link.terminate()
        link.close()
        self._sockets.discard(place.socket)

    # --- keepers ---

    def _place(self, name: str = "00000000") -> Place:
        return Place(self._runtime_dir / f"{name}.sock", self._log_dir / f"{name}.log")

    async def _take(self) -> tuple[Link, Place]:
        """The spare keeper if it is well, else a new one; we are its controller."""
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                link, place = await spare
                try:
                    await link.ask("attach", offset=0)
                except asyncio.CancelledError:
                    self._give_up(link, place)
                    raise
            except (OSError, KeeperLost, KeeperRefused) as error:
                log.info("the spare keeper was lost: %s", error)
            else:
                return link, place
        return await self._spawn()

    def _refill(self) -> None:
        if self._wants_spare and self._spare is None:
            self._spare = asyncio.get_running_loop().create_task(self._spawn(), name="spare keeper")
            self._spare.add_done_callback(_retrieved)

    async def _discard(self, spare: asyncio.Task[tuple[Link, Place]]) -> None:
        await asyncio.wait([spare])
        if not spare.cancelled() and spare.exception() is None:
            link, place = spare.result()
            link.tell("stop", grace=0)
            await link.gone()
            link.close()
            self._sockets.discard(place.socket)

    async def _spawn(self) -> tuple[Link, Place]:
        """A new keeper that waits for `go`, we being its controller. Raises OSError, KeeperLost."""
        place = self._place(secrets.token_hex(4))
        self._sockets.add(place.socket)
        try:
            return await self._connect(place), place
        except BaseException:
            self._sockets.discard(place.socket)
            raise

    async def _connect(self, place: Place) -> Link:
        """Runs a keeper and attaches to it; should that fail, ends it. Our end of its stdout tells it that we live."""
        ready, said = os.pipe()
        try:
            pid = self._run_keeper(place, said)
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(said)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await readable(ready)
            _expect_ready(os.read(ready, 4096))
            link = await Link.open(place.socket, self._install)
            await link.ask("attach", offset=0)
        except BaseException:
            if pid in self._children:
                signal.pidfd_send_signal(self._children[pid], signal.SIGTERM)
            raise
        finally:
            os.close(ready)
        return link

    def _run_keeper(self, place: Place, said: int) -> int:
        """Spawned directly: asyncio's own subprocesses are killed when their transport is closed."""
        numbers = (self._orphan_grace, self._term_grace, self._log_limit)
        argv = [self._python, "-I", "-S", keeper.__file__, str(place.socket), str(place.log), self._install]
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, said, number) for number in (1, 2)]
        # The least a Python needs: what an engine gets comes with `go`.
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        pid = os.posix_spawn(self._python, [*argv, *map(str, numbers)], environment, file_actions=actions, setsid=True)
        pidfd = os.pidfd_open(pid)
        self._children[pid] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._reap, pid)
        return pid

    def _reap(self, pid: int) -> None:
        """Buries a keeper that has ended; forgets one that has not."""
        pidfd = self._children.pop(pid)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass  # whoever embeds us reaps all children

    # --- what is left over ---

    def _remove_logs(self) -> None:
        """Deletes logs whose keeper is gone; a keeper has its socket before it has a log."""
        for path in self._log_dir.glob("*.log*"):
            name = path.name.partition(".")[0]
            if re.fullmatch("[0-9a-f]{8}", name) and not self._place(name).socket.exists():
                path.unlink(missing_ok=True)

    async def _sweep(self) -> None:
        """Ends engine processes of ours that have no keeper any more."""
        try:
            ended = await asyncio.to_thread(strays.sweep, self._install, lambda: set(_live_keepers(self._runtime_dir)))
        except OSError as error:
            log.warning("can't tell which keepers live, so no strays are looked for: %s", error)
            return
        for stray in ended:
            log.warning("ended a stray process of %s (pid %d): its keeper was gone", stray.model, stray.pid)


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Its failure is told to whoever takes the spare."""
    if not task.cancelled():
        task.exception()


def _expect_ready(words: bytes) -> None:
    """The keeper's first words; a traceback if it failed. Raises KeeperLost with its last line."""
    if words != b"ready\n":
        raise KeeperLost((words.decode(errors="replace").strip() or "it ended at once").splitlines()[-1])


def _make_private(folder: Path) -> None:
    """A folder that is ours alone. Raises ConfigError when it is another user's: in /tmp it may be planted."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(
            f"The runtime folder {folder} is not a folder of this user; remove it or set XDG_RUNTIME_DIR."
        )
    folder.chmod(0o700)


def _live_keepers(folder: Path) -> Iterator[int]:
    """Pids of all keepers that listen in `folder`, whosever. Raises OSError when one can't be ruled out either."""
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(1.0)
            try:
                sock.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                continue
            yield peer_pid(sock)


def _tag_of(fields: object) -> Tag:
    assert isinstance(fields, dict)
    return Tag(
        model=str(fields["model"]),
        settings=str(fields["settings"]),
        port=int(fields["port"]),
        started=float(fields["started"]),
        claim={str(device): int(size) for device, size in fields.get("claim", {}).items()},
    )


def _why_not_started(tag: Tag, command: Command, cwd: str, answer: Message) -> str:
    """The keeper's errno in words, with what to do."""
    number = int(str(answer["errno"]))
    said = os.strerror(number)
    program = command.argv[0] if command.argv else ""
    intro = f"'{tag.model}' can't be started:"
    match answer["what"], number:
        case "cwd", _:
            return f"{intro} its working folder {cwd} can't be entered ({said})."
        case "argv", errno.ENOENT:
            return f"{intro} the program {program} (or its interpreter) was not found. Is it installed and on PATH?"
        case "argv", errno.EACCES:
            return f"{intro} {program} is not executable ({said}). Try chmod +x."
        case "argv", errno.ENOEXEC:
            return f"{intro} {program} is no program for this machine, nor a script with a '#!' line."
        case _:
            return f"{intro} running {program} failed ({said})."
