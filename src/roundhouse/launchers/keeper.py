"""The keeper: a small program that runs one engine so that nothing of it is lost, and nothing of it is left behind.

Run as `python -I -S keeper.py SOCKET LOG INSTALL ORPHAN_GRACE TERM_GRACE LOG_LIMIT`; standard library only, and
one file, as it runs isolated from the package. It outlives Roundhouse: as subreaper it inherits every descendant of the
engine however that daemonised, holds its stdin and output, and ends the whole tree when no controller has come back
for ORPHAN_GRACE seconds (spec E3). It doesn't know what an engine is. The controller's side is `process.py`.

Protocol: JSON lines, each with `"v": 1`, on a unix socket. Requests have `do`, replies and news have `is`:

    attach(install, offset)        -> attached(pid, tag, start, end, exit)   makes this connection the controller
    state(install)                 -> state(the same fields)                 for anyone of this installation
    go(argv, env, cwd, tag)        -> started(pid) | failed(what, errno)     what: argv | cwd | fork
    stop(grace)                    ->                                        `exited` follows when the tree is gone
    release()                      -> closes; after `exited` it means: read, you may go
    news: output(offset, data), exited(code, stopped), replaced(), refused(reason)

`data` is UTF-8 decoded with surrogateescape, so that any bytes survive. Offsets count bytes ever written by the engine.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs a fifth of the start-up time
    from collections.abc import Callable
    from typing import NoReturn

VERSION = 1
RECENT = 256 << 10  # bytes of output kept in memory: what a controller sees while the disk is full
CHUNK = 32 << 10  # bytes of output in one message; JSON may make six of each
PUMP = 4  # messages of output in one turn of the loop, so that a long catching up doesn't keep the engine waiting
ENOUGH = 64 << 10  # bytes queued to a controller before more output waits in the log
TOO_MUCH = 8 << 20  # bytes queued in either direction at which a connection is nonsense
MOST_CONNECTIONS = 16
SHORT_TERM = 0.5  # seconds that what is left of a tree gets after SIGTERM when its main process has ended
EOF_TERM = 0.5  # seconds that an engine which ends with its stdin gets before SIGTERM
LONGEST_GRACE = 86400.0  # seconds; no clock takes Infinity
KILL_EVERY = 0.05  # seconds between SIGKILL rounds: processes forked during one fall to the next
FIRST_WAIT = 10.0  # seconds for the first controller to come: it has just started us
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SIZE_OF_UCRED = 12  # struct ucred: pid, uid, gid, 4 bytes each

Message = dict[str, object]


class StartFailed(Exception):
    """The engine's program can't be run: `what` (argv, cwd or fork) met `errno`."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(what, number)
        self.what, self.errno = what, number


class Refused(Exception):
    """The peer asked for what it must not have; told to it, then the connection is closed."""


class Half:
    """One of the log's two files: the bytes from offset `start` on, `size` of them."""

    def __init__(self, fd: int, start: int) -> None:
        self.fd, self.start, self.size = fd, start, 0

    @property
    def end(self) -> int:
        """Offset after the last byte held."""
        return self.start + self.size

    def write(self, data: bytes) -> None:
        """Takes what the disk takes; the rest is dropped (disk full, quota, file size limit)."""
        try:
            self.size += os.write(self.fd, data)
        except OSError:
            pass  # nothing may stop the engine; the gap shows in the offsets

    def read(self, offset: int, size: int) -> bytes:
        """Bytes held from `offset` on; none if the disk doesn't give them back."""
        try:
            return os.pread(self.fd, size, offset - self.start)
        except OSError:
            return b""


class Output:
    """What the engine wrote: the last RECENT bytes in memory, the last `limit` bytes on disk.

    On disk it is two files that take turns: the newer is filled to half the limit, then replaces the older. A gap (disk
    full) begins a new file, so that within a file offsets are contiguous.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path, self.half = path, limit // 2
        self.end = 0
        self.recent = bytearray()
        self.halves: list[Half] = []

    @property
    def recent_start(self) -> int:
        """Offset of the oldest byte in memory."""
        return self.end - len(self.recent)

    @property
    def start(self) -> int:
        """Offset of the oldest byte kept anywhere."""
        return min([self.recent_start, *(half.start for half in self.halves if half.size)])

    def append(self, data: bytes) -> None:
        """Adds output, never failing."""
        newest = self.halves[-1] if self.halves else None
        if newest is None or newest.end != self.end or newest.size + len(data) > self.half:
            newest = self._turn(newest)
        if newest is not None:
            newest.write(data)
        self.end += len(data)
        self.recent += data
        del self.recent[:-RECENT]

    def _turn(self, newest: Half | None) -> Half | None:
        """The file to write to next; None when there can't be one."""
        if newest is not None and not newest.size:
            newest.start = self.end
            return newest
        try:
            if newest is not None:
                self._retire()
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        self.halves.append(Half(fd, self.end))
        return self.halves[-1]

    def _retire(self) -> None:
        while len(self.halves) > 1:
            os.close(self.halves.pop(0).fd)
        if os.path.exists(self.path):
            os.replace(self.path, self.path + ".1")

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """Up to `size` bytes from the first kept offset at or after `offset`; with that offset."""
        for half in self.halves:
            begin = max(offset, half.start)
            if begin < min(half.end, self.recent_start):
                data = half.read(begin, min(size, self.recent_start - begin))
                if data:
                    return begin, data
        begin = max(offset, self.recent_start)
        position = begin - self.recent_start
        return begin, bytes(self.recent[position : position + size])

    def remove(self) -> None:
        """Deletes the files."""
        for path in (self.path, self.path + ".1"):
            unlink(path)


class Tree:
    """The engine's processes: the main one and its descendants, which become our children when their parents die."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.keeper = os.getpid()
        self.main = 0  # pid of the main process, 0 before the start
        self.code: int | None = None  # exit code of the main process, or minus its signal
        self.gone = False  # no process is left
        self.stdin = -1

    @property
    def main_runs(self) -> bool:
        """Whether the main process still runs."""
        return self.main != 0 and self.code is None

    def start(self, argv: list[str], env: dict[str, str], cwd: str) -> int:
        """Runs the engine; returns the descriptor to read its output from. Raises StartFailed."""
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for _ in range(3):
                pair = os.pipe()
                ours.append(pair[0])
                theirs.append(pair[1])
            ours[0], theirs[0] = theirs[0], ours[0]  # of stdin, we write and the engine reads
            pid = os.fork()
        except OSError as error:
            close_all([*ours, *theirs])
            raise StartFailed("fork", error.errno or errno.EAGAIN) from error
        if not pid:
            self._become_engine(argv, env, cwd, theirs)
        close_all(theirs)
        self.stdin, output, failure = ours
        said = os.read(failure, 64).decode()  # empty once the program runs: the pipe closes on exec
        os.close(failure)
        if said:
            os.waitpid(pid, 0)
            self.close_stdin()
            os.close(output)
            what, _, number = said.partition(" ")
            raise StartFailed(what, int(number))
        self.main = pid
        os.set_blocking(output, False)
        return output

    def _become_engine(self, argv: list[str], env: dict[str, str], cwd: str, fds: list[int]) -> NoReturn:
        """In the forked child. Its own session, so that `kill 0` in an engine doesn't meet the keeper."""
        stdin, output, failure = fds
        stage = "fork"
        try:
            os.setsid()
            # An aborting engine would keep its memory until all of it was written to disk. Who wants that can raise it.
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
            self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != self.keeper:  # it died before the line above
                os._exit(1)
            for name in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGTERM", "SIGCHLD"):
                signal.signal(signal.Signals[name], signal.SIG_DFL)
            for standard, fd in enumerate((stdin, output, output)):
                os.dup2(fd, standard)
            stage = "cwd"
            os.chdir(cwd)
            stage = "argv"
            os.execvpe(argv[0], argv, env)  # noqa: S606 -- no shell is the point
        except (OSError, ValueError, TypeError) as error:  # the latter two: a NUL byte, a value that is no string
            os.write(failure, f"{stage} {getattr(error, 'errno', errno.EINVAL)}".encode())
        finally:
            os._exit(127)

    def reap(self) -> None:
        """Takes note of all children that ended."""
        while self.main and not self.gone:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.gone = True
                return
            if not pid:
                return
            if pid == self.main:
                self.code = os.waitstatus_to_exitcode(status)

    def terminate_main(self) -> None:
        """SIGTERM to the main process. It is our child and not yet reaped, so its pid can't be anyone else's."""
        if self.main_runs:
            os.kill(self.main, signal.SIGTERM)

    def signal_all(self, number: int) -> None:
        """A signal to every descendant, each pinned by a pidfd before it is looked at again: pids are reused."""
        for pid in descendants(self.keeper):
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                if descends_from(pid, self.keeper):
                    signal.pidfd_send_signal(fd, number)
            except OSError:
                pass  # it ended, or changed its user: SIGKILL rounds go on while a child is left
            finally:
                os.close(fd)

    def close_stdin(self) -> None:
        """Ends the engine's standard input."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1


class Connection:
    """One peer, and what is on its way to and from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming = b""
        self.outgoing = bytearray()
        self.offset = 0  # of the next output byte to send
        self.known = False  # has named our installation
        self.told_exit = False
        self.open = True

    def say(self, kind: str, **fields: object) -> None:
        """Queues a message."""
        self.outgoing += json.dumps({"v": VERSION, "is": kind, **fields}).encode() + b"\n"

    def send(self) -> None:
        """Sends what the peer takes now. Raises OSError when it has gone."""
        try:
            while self.outgoing:
                del self.outgoing[: self.sock.send(self.outgoing)]
        except BlockingIOError:
            pass

    def receive(self) -> list[bytes]:
        """Whole lines that have come. Raises OSError when the peer has gone, Refused when it sends nonsense."""
        try:
            data = self.sock.recv(256 << 10)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError
        *lines, self.incoming = (self.incoming + data).split(b"\n")
        if len(self.incoming) > TOO_MUCH:
            raise Refused("request too long")
        return lines


class Keeper:
    """The loop: one engine, one controller, one clock."""

    def __init__(self, path: str, log: str, install: str, grace: float, term_grace: float, log_limit: int) -> None:
        self.path, self.install = path, install
        self.grace, self.term_grace = grace, term_grace
        self.output = Output(log, log_limit)
        self.tree = Tree()
        self.selector = selectors.DefaultSelector()
        self.connections: set[Connection] = set()
        self.controller: Connection | None = None
        self.tag: object = None
        self.pipe = -1  # the engine's output
        self.stopped = False  # the engine was told to end
        self.sweeping = False  # its main process has ended, what is left was told to
        self.eof_ends = False  # the engine ends with its stdin
        self.term_at: float | None = None  # when SIGTERM is due to one that should have
        self.kill_at: float | None = None  # when SIGKILL is due
        self.leave_at: float | None = time.monotonic() + FIRST_WAIT  # when we wait for nobody any more
        self.leaving = False
        self.done = False
        self.requests: dict[str, Callable[[Connection, Message], None]] = {
            "attach": self.attach,
            "state": lambda peer, _: peer.say("state", **self.state()),
            "go": self.go,
            "stop": self.stop,
            "release": self.release,
        }

    # --- the loop ---

    def listen(self) -> None:
        """Binds the socket. It gets its name only when it listens: a refusal there always means a dead keeper."""
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        draft = self.path.removesuffix(".sock") + ".new"
        mask = os.umask(0o177)
        try:
            self.listener.bind(draft)
        finally:
            os.umask(mask)
        self.listener.listen(64)
        self.listener.setblocking(False)
        os.rename(draft, self.path)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def watch_signals(self) -> None:
        """SIGCHLD wakes the loop; SIGTERM and SIGINT end the tree. Handlers only write to a pipe."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.selector.register(reader, selectors.EVENT_READ, lambda: self.on_signals(os.read(reader, 4096)))

    def announce(self, starter: int) -> None:
        """Says `ready` to who started us. Until it attaches, the other end of that pipe is what tells that it lives."""
        try:
            os.write(starter, b"ready\n")
            self.selector.register(starter, selectors.EVENT_READ, lambda: self.on_starter_gone(starter))
        except PermissionError:
            pass  # not a pipe, but a file or terminal: run by hand
        except OSError:
            self.done = True  # it has gone, and nobody else knows of us

    def on_starter_gone(self, starter: int) -> None:
        """The pipe's other end is closed. Nobody else knows of a keeper that it hasn't attached to."""
        self.selector.unregister(starter)
        os.close(starter)
        self.done = self.done or (self.controller is None and not self.tree.main)

    def run(self) -> None:
        """Serves until there is nothing left to keep."""
        try:
            while not self.done:
                for key, _ in self.selector.select(self.timeout()):
                    key.data()
                self.tick(time.monotonic())
        finally:
            self.close()

    def timeout(self) -> float | None:
        """Seconds until something is due."""
        due = [at for at in (self.term_at, self.kill_at, self.leave_at) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def tick(self, now: float) -> None:
        """Does what is due."""
        if self.term_at is not None and now >= self.term_at:
            self.term_at, self.eof_ends = None, False
            self.tree.terminate_main()
        if self.kill_at is not None and now >= self.kill_at and not self.tree.gone:
            self.kill_at = now + KILL_EVERY
            self.tree.signal_all(signal.SIGKILL)
        if self.leave_at is not None and now >= self.leave_at:
            self.leave_at = None
            self.leave()
        if self.controller is not None:
            self.pump(self.controller)

    def close(self) -> None:
        """Ends everything, whatever happened before: no engine without a keeper."""
        while self.tree.main and not self.tree.gone:
            self.tree.signal_all(signal.SIGKILL)
            time.sleep(KILL_EVERY)
            self.tree.reap()
        unlink(self.path)
        self.output.remove()

    # --- the engine ---

    def on_signals(self, numbers: bytes) -> None:
        """Signals that came since the last look."""
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.leave()
        if signal.SIGCHLD in numbers and self.tree.main and not self.tree.gone:
            self.reap()

    def reap(self) -> None:
        """Looks who ended: the main process (then the rest must follow), or all."""
        self.tree.reap()
        if self.tree.gone:
            self.on_gone()
        elif not self.tree.main_runs and not self.sweeping:
            self.sweeping = True
            self.tree.close_stdin()
            self.tree.signal_all(signal.SIGTERM)
            if self.kill_at is None:  # else a stop is under way: an engine behind a wrapper script has its grace too
                self.kill_at = time.monotonic() + SHORT_TERM

    def on_gone(self) -> None:
        """No process is left: reads the last words, and keeps the exit code for who wants it."""
        for _ in range(64):  # a pipe holds 64 KiB; whoever could still write to it is not ours
            if not self.read_output():
                break
        if self.pipe >= 0:
            self.close_output()
        self.tree.close_stdin()
        self.term_at = self.kill_at = None
        self.done = self.leaving and self.controller is None

    def read_output(self) -> bool:
        """Moves output to the log; False when there is none now."""
        if self.pipe < 0:
            return False
        try:
            data = os.read(self.pipe, min(CHUNK * 2, self.output.half))
        except BlockingIOError:
            return False
        if data:
            self.output.append(data)
        else:
            self.close_output()
        return bool(data)

    def close_output(self) -> None:
        """No more output will come."""
        self.selector.unregister(self.pipe)
        os.close(self.pipe)
        self.pipe = -1

    def end(self, grace: float) -> None:
        """Ends the tree, main process first; SIGKILL to all after `grace` seconds."""
        if not self.tree.main:
            self.done = True
        if self.tree.gone or not self.tree.main:
            return
        self.stopped = self.stopped or self.tree.main_runs
        self.tree.close_stdin()
        now = time.monotonic()
        if not self.eof_ends:
            self.tree.terminate_main()
        elif self.term_at is None:
            self.term_at = now + min(EOF_TERM, grace)
        self.kill_at = now + grace if self.kill_at is None else min(self.kill_at, now + grace)

    def leave(self) -> None:
        """Nobody needs us any more, or we are told to end. A controller that is there may still read the exit."""
        self.leaving = True
        self.end(self.term_grace)
        self.done = self.done or (self.tree.gone and self.controller is None)

    # --- the controller ---

    def accept(self) -> None:
        """A peer comes: of our user or root, or it is sent away."""
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        peer = Connection(sock)
        self.connections.add(peer)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self.on_ready(peer))
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, SIZE_OF_UCRED)
        if int.from_bytes(credentials[4:8], sys.byteorder) not in {0, os.getuid()}:
            self.refuse(peer, "another user's keeper")
        elif len(self.connections) > MOST_CONNECTIONS:
            self.refuse(peer, "too many connections")

    def on_ready(self, peer: Connection) -> None:
        """The peer has sent something or takes more."""
        try:
            for line in peer.receive():
                self.on_line(peer, line)
                if not peer.open:
                    return
            self.flush(peer)
        except Refused as refusal:
            self.refuse(peer, str(refusal))
        except OSError:
            self.drop(peer)

    def on_line(self, peer: Connection, line: bytes) -> None:
        """One request."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refused("not JSON") from error
        if not isinstance(message, dict) or message.get("v") != VERSION:
            raise Refused(f"this keeper speaks version {VERSION}")
        if not peer.known and message.get("install") != self.install:
            raise Refused("another installation's keeper")
        peer.known = True
        request = self.requests.get(str(message.get("do")))
        if request is None:
            raise Refused("unknown request")
        if message["do"] not in {"attach", "state"} and peer is not self.controller:
            raise Refused("only the controller may ask this")
        try:
            request(peer, message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(f"malformed request: {error!r}") from error

    def state(self) -> Message:
        """What is known about the engine; `exit` is None until the whole tree is gone."""
        return {
            "keeper": os.getpid(),
            "pid": self.tree.main or None,
            "tag": self.tag,
            "start": self.output.start,
            "end": self.output.end,
            "exit": {"code": self.tree.code, "stopped": self.stopped} if self.tree.gone else None,
        }

    def attach(self, peer: Connection, message: Message) -> None:
        """The newest controller wins."""
        offset = int(str(message.get("offset", 0)))
        older = self.controller
        if older is not None and older is not peer:
            self.controller = peer
            older.say("replaced")
            self.drop(older)
        self.controller = peer
        self.leave_at = None
        peer.offset = max(0, offset)
        peer.told_exit = False
        peer.say("attached", **self.state())

    def go(self, peer: Connection, message: Message) -> None:
        """Starts the engine."""
        if self.tree.main:
            raise Refused("an engine was started already")
        argv, env = message["argv"], message["env"]
        if not isinstance(argv, list) or not argv or not isinstance(env, dict):
            raise TypeError("argv or env")
        try:
            self.pipe = self.tree.start([str(word) for word in argv], env, str(message["cwd"]))
        except StartFailed as failure:
            peer.say("failed", what=failure.what, errno=failure.errno)
            return
        self.tag = message["tag"]
        self.eof_ends = message.get("eof_ends") is True
        self.selector.register(self.pipe, selectors.EVENT_READ, self.read_output)
        peer.say("started", pid=self.tree.main)

    def stop(self, _peer: Connection, message: Message) -> None:
        """Ends the tree; `exited` is told when it is gone."""
        self.end(min(max(0.0, float(str(message.get("grace", self.term_grace)))), LONGEST_GRACE))

    def release(self, peer: Connection, _message: Message) -> None:
        """The controller lets go; once it has been told the exit there is nothing left to keep."""
        self.done = self.done or peer.told_exit
        self.drop(peer)

    def pump(self, peer: Connection) -> None:
        """Gives the controller as much output as it takes, then the exit. What it doesn't take stays in the log."""
        try:
            for _ in range(PUMP):
                if peer.offset >= self.output.end or len(peer.outgoing) >= ENOUGH:
                    break
                begin, data = self.output.read(peer.offset, CHUNK)
                peer.offset = begin + len(data)
                peer.say("output", offset=begin, data=data.decode("utf-8", "surrogateescape"))
                peer.send()
            if self.tree.gone and peer.offset >= self.output.end and not peer.told_exit:
                peer.told_exit = True
                peer.say("exited", code=self.tree.code, stopped=self.stopped)
            self.flush(peer)
        except OSError:
            self.drop(peer)

    def flush(self, peer: Connection) -> None:
        """Sends, and asks to be woken when the peer takes more and there is more. Raises OSError when it has gone."""
        peer.send()
        if len(peer.outgoing) > TOO_MUCH:
            raise ConnectionAbortedError
        more = peer.outgoing or (peer is self.controller and peer.offset < self.output.end)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
        key = self.selector.get_key(peer.sock)
        if key.events != events:
            self.selector.modify(peer.sock, events, key.data)

    def refuse(self, peer: Connection, reason: str) -> None:
        """Tells why, as far as it listens, and closes."""
        peer.say("refused", reason=reason)
        self.drop(peer)

    def drop(self, peer: Connection) -> None:
        """Forgets a peer; after the controller the clock runs. A keeper without an engine has nothing to wait for."""
        if not peer.open:
            return
        try:
            peer.send()
        except OSError:
            pass  # it has gone: that is why we drop it
        peer.open = False
        self.selector.unregister(peer.sock)
        peer.sock.close()
        self.connections.discard(peer)
        if peer is self.controller:
            self.controller = None
            self.leave_at = time.monotonic() + self.grace
            self.done = self.done or not self.tree.main or (self.leaving and self.tree.gone)


def parent(pid: int) -> int:
    """The parent's pid; 0 when there is none or the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])  # the name in parentheses may hold anything
    except (OSError, IndexError):
        return 0


def descendants(root: int) -> list[int]:
    """Pids of all processes below `root`, by the parents in /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            children.setdefault(parent(int(name)), []).append(int(name))
    todo, found = [root], []
    while todo:
        below = children.get(todo.pop(), [])
        todo += below
        found += below
    return found


def descends_from(pid: int, root: int) -> bool:
    """Whether `root` is among the ancestors of `pid` at this moment."""
    while pid > 1:
        pid = parent(pid)
        if pid == root:
            return True
    return False


def close_all(fds: list[int]) -> None:
    """Closes descriptors."""
    for fd in fds:
        os.close(fd)


def unlink(path: str) -> None:
    """Deletes a file if it is there and can be."""
    try:
        os.unlink(path)
    except OSError:
        pass  # gone already, or the folder is: nothing of ours is left then


def silence() -> None:
    """Standard streams to /dev/null: who started us reads one line and then must not matter."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def main(arguments: list[str]) -> None:
    """Says `ready` on stdout once the socket listens; a line of anything else means that it failed."""
    os.closerange(3, 1 << 16)
    try:
        os.setsid()
    except PermissionError:
        pass  # we lead a session already
    os.chdir("/")
    path, log, install, grace, term_grace, log_limit = arguments
    keeper = Keeper(path, log, install, float(grace), float(term_grace), int(log_limit))
    keeper.watch_signals()
    try:
        keeper.listen()
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    keeper.announce(os.dup(1))
    silence()
    keeper.run()


if __name__ == "__main__":
    main(sys.argv[1:])
