"""The keeper itself: its wire protocol, its log, and that nothing slow or full holds up the engine."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.launchers import keeper
from tests.support.keeper_client import GO_TAG, RawController, RawKeeper
from tests.support.processes import Watched

CHATTY = "import os\nfor n in range(10240): os.write(1, b'%08d' % n * 128)"  # 10 MiB


@pytest.fixture
def start(runtime, install):
    """Starts keepers; ends them."""
    started = []

    def begin(**options: Any):
        started.append(RawKeeper(runtime, install, **options))
        return started[-1]

    yield begin
    for process in started:
        process.end()


def python(source):
    return [sys.executable, "-S", "-c", source]


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def chatter(start_offset, size):
    """What CHATTY wrote at an offset."""
    first = start_offset // 1024
    whole = b"".join(b"%08d" % n * 128 for n in range(first, (start_offset + size) // 1024 + 1))
    return whole[start_offset - first * 1024 :][:size]


# --- the protocol ---


def test_attach_go_output_exit_release(start):
    process = start()
    assert process.first_line == b"ready\n"
    peer = process.controller()
    assert peer.attached == {
        "v": 1,
        "is": "attached",
        "keeper": process.process.pid,
        "pid": None,
        "tag": None,
        "start": 0,
        "end": 0,
        "exit": None,
    }
    started = peer.go("sh", "-c", "printf 'a\\377b'; exit 4")
    assert started["is"] == "started"
    chunks, ending = peer.output_until_exit()
    assert b"".join(data for _, data in chunks) == b"a\xffb"
    assert ending == {"v": 1, "is": "exited", "code": 4, "stopped": False}
    peer.tell("state")
    state = peer.hear("state")
    assert (state["pid"], state["tag"], state["end"]) == (started["pid"], GO_TAG, 3)
    assert state["exit"] == {"code": 4, "stopped": False}
    peer.tell("release")
    assert peer.hear() == {}
    assert process.process.wait(10) == 0
    assert not process.socket.exists()
    assert not process.log.exists()
    peer.close()


def test_attach_at_an_offset_resumes(start):
    process = start()
    first = process.controller()
    first.go("sh", "-c", "printf 0123456789; exec sleep 1000")
    got = b""
    while len(got) < 10:
        got += first.hear("output")["data"].encode()
    second = process.controller(offset=7)
    assert first.hear_all()[-1]["is"] == "replaced"
    assert second.hear() == {"v": 1, "is": "output", "offset": 7, "data": "789"}
    second.tell("stop", grace=0)
    assert second.hear("exited")["stopped"] is True
    first.close()
    second.close()


def test_exit_is_kept_until_read(start):
    process = start()
    first = process.controller()
    pid = Watched(first.go("sh", "-c", "echo words; exit 9")["pid"])
    first.close()
    assert pid.gone(within=10)
    second = process.controller()
    chunks, ending = second.output_until_exit()
    assert (chunks, ending["code"]) == ([(0, b"words\n")], 9)
    second.close()  # without release: it may have died before it could use what it read
    third = process.controller()
    assert third.output_until_exit()[1]["code"] == 9
    third.close()


def test_exit_is_forgotten_after_the_grace(start):
    process = start(grace=0.2)
    peer = process.controller()
    peer.go("true")
    peer.close()
    assert process.process.wait(10) == 0
    assert not process.socket.exists()


def test_e3_sigterm_to_the_keeper_ends_the_tree(start):
    process = start()
    peer = process.controller()
    engine = Watched(peer.go("sleep", "1000")["pid"])
    process.process.send_signal(signal.SIGTERM)
    assert peer.hear("exited") == {"v": 1, "is": "exited", "code": -15, "stopped": True}
    assert engine.gone()
    peer.close()  # it has read, or never will
    assert process.process.wait(10) == 0


def test_e3_engine_dies_with_a_killed_keeper(start):
    process = start()
    peer = process.controller()
    engine = Watched(peer.go("sleep", "1000")["pid"])
    process.process.kill()
    assert engine.gone(within=10)
    peer.close()


def test_idle_keeper_ends_when_its_controller_leaves(start):
    process = start()
    process.controller().close()
    assert process.process.wait(10) == 0


def test_keeper_whose_starter_has_gone_ends_at_once(runtime, install):
    reader, writer = os.pipe()
    os.close(reader)
    socket_path, log = str(runtime / "aaaaaaaa.sock"), str(runtime / "a.log")
    argv = [sys.executable, "-I", "-S", keeper.__file__, socket_path, log, install, "60", "1", "4096"]
    actions = [(os.POSIX_SPAWN_DUP2, writer, 1)]
    pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(runtime.iterdir()) == []


def test_keeper_nobody_attached_to_ends_with_its_starter(start):
    process = start()
    process.process.stdout.close()
    assert process.process.wait(8) == 0  # sooner than FIRST_WAIT


def test_e1_the_clock_stops_when_a_controller_comes_back(start):
    process = start(grace=1)
    first = process.controller()
    first.go("sleep", "1000")
    first.tell("release")
    assert first.hear() == {}
    second = process.controller()
    time.sleep(1.2)  # past the grace: that nothing happens can only be seen by waiting
    second.tell("state")
    assert second.hear("state")["exit"] is None
    first.close()
    second.close()


def test_socket_that_cannot_be_bound_says_why(start, runtime, install):
    process = RawKeeper(runtime / "missing", install)
    assert b"missing" in process.first_line
    assert process.process.wait(10) == 1
    process.end()


# --- who may ask ---


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"v": 1, "do": "attach", "install": "another"}', "another installation"),
        (b'{"v": 1, "do": "attach"}', "another installation"),
        (b'{"v": 2, "do": "attach", "install": "INSTALL"}', "version 1"),
        (b'{"v": 1, "do": "dance", "install": "INSTALL"}', "unknown request"),
        (b'{"v": 1, "do": "stop", "grace": 0, "install": "INSTALL"}', "only the controller"),
        (b'{"v": 1, "do": "go", "argv": ["true"], "install": "INSTALL"}', "only the controller"),
        (b'{"v": 1, "do": "attach", "offset": "x", "install": "INSTALL"}', "malformed"),
        (b"[1]", "version 1"),
        (b"nonsense", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_refused_requests_leave_the_engine_alone(start, install, line, reason):
    process = start()
    owner = process.controller()
    owner.go("sleep", "1000")
    peer = RawController(process.socket, install)
    peer.send(line.replace(b"INSTALL", install.encode()) + b"\n")
    answer = peer.hear()
    assert answer["is"] == "refused"
    assert reason in answer["reason"]
    assert peer.hear() == {}
    owner.tell("state")
    assert owner.hear("state")["exit"] is None
    peer.close()
    owner.close()


@pytest.mark.parametrize(
    "fields", [{"argv": []}, {"argv": "true"}, {"env": []}, {"env": {"A": 1}}, {"cwd": None}, {"argv": ["a\0b"]}]
)
def test_malformed_go_starts_nothing(start, fields):
    peer = start().controller()
    peer.tell("go", **{"argv": ["true"], "env": {}, "cwd": "/", "tag": GO_TAG, **fields})
    assert peer.hear()["is"] in {"refused", "failed"}
    peer.close()


def test_endless_grace_is_no_trouble(start):
    peer = start().controller()
    peer.go("sleep", "1000")
    peer.tell("stop", grace=float("inf"))
    assert peer.hear("exited")["code"] == -15
    peer.close()


def test_second_go_is_refused(start):
    peer = start().controller()
    peer.go("sleep", "1000")
    assert peer.go("true")["is"] == "refused"
    peer.close()


def test_endless_request_is_cut_off(start, install):
    process = start()
    peer = RawController(process.socket, install)
    with pytest.raises(ConnectionError):
        peer.send(b"x" * (64 << 20))
    peer.close()
    process.controller().close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_other_users_are_refused(start, runtime, install):
    process = start()
    runtime.chmod(0o711)
    process.socket.chmod(0o666)
    os.seteuid(65534)
    try:
        peer = RawController(process.socket, install)
    finally:
        os.seteuid(0)
    assert peer.hear() == {"v": 1, "is": "refused", "reason": "another user's keeper"}  # before it asked anything
    peer.close()


def test_connections_are_bounded(start, install):
    process = start()
    owner = process.controller()
    others = [RawController(process.socket, install) for _ in range(keeper.MOST_CONNECTIONS)]
    assert others[-1].hear()["is"] == "refused"
    for peer in [*others, owner]:
        peer.close()


# --- nothing holds up the engine ---


def test_e6_stuck_controller_blocks_neither_engine_nor_keeper(start):
    process = start(log_limit=1 << 20)
    stuck = process.controller()  # attached, and never reads on
    engine = Watched(stuck.go(*python(CHATTY))["pid"])
    assert engine.gone(within=30)
    asking = process.controller()  # what is kept can be had: the last of it, in order
    chunks, ending = asking.output_until_exit()
    assert ending["code"] == 0
    end = 10240 * 1024
    assert chunks[0][0] >= end - (1 << 20) - keeper.RECENT
    assert end - chunks[0][0] > (1 << 20) // 2
    offset = chunks[0][0]
    for begin, data in chunks:
        assert begin == offset
        assert data == chatter(begin, len(data))
        offset += len(data)
    assert offset == end
    stuck.close()
    asking.close()


def test_e6_log_is_bounded(start):
    process = start(log_limit=64 << 10)
    peer = process.controller()
    peer.go(*python(CHATTY))
    largest = 0
    while (message := peer.hear())["is"] != "exited":
        largest = max(largest, size_of(process.log) + size_of(Path(f"{process.log}.1")))
    assert message["code"] == 0
    assert 0 < largest <= 64 << 10
    peer.close()


def test_e6_full_disk_blocks_nothing_and_shows_in_the_offsets(start):
    """A file size limit of 8 KiB stands for the full disk: writes fail in the same place."""
    limited = ("sh", "-c", 'ulimit -f 16; exec "$@"', "sh")
    process = start(prefix=limited)
    peer = process.controller()
    peer.go(*python(CHATTY))
    chunks, ending = peer.output_until_exit()
    assert ending["code"] == 0
    assert all(data == chatter(begin, len(data)) for begin, data in chunks)
    last, data = chunks[-1]
    assert last + len(data) == 10240 * 1024  # memory serves where the disk doesn't
    peer.close()


def test_log_that_cannot_be_made_is_done_without(start, runtime):
    (runtime / "engine.log").mkdir()
    peer = start().controller()
    peer.go("echo", "still heard")
    chunks, ending = peer.output_until_exit()
    assert (chunks, ending["code"]) == ([(0, b"still heard\n")], 0)
    peer.close()


# --- the log alone, against a plain model of it ---


@given(
    writes=st.lists(st.tuples(st.integers(1, 3000), st.sampled_from(["ok", "ok", "ok", "short", "full", "no file"]))),
    seek=st.integers(0, 100_000),
    recent=st.sampled_from([64, 1000, 5000]),
)
def test_output_never_lies_and_serves_to_the_end(writes, seek, recent):
    everything = b""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "RECENT", recent)
        output = keeper.Output(f"{folder}/log", 8192)
        for size, fate in writes:
            data = bytes((len(everything) + n) % 251 for n in range(size))
            with pytest.MonkeyPatch.context() as disk:
                break_disk(disk, fate)
                output.append(data)
            everything += data
            assert sum(file.stat().st_size for file in Path(folder).iterdir()) <= 8192
        assert output.end == len(everything)
        offset = min(seek, len(everything))
        while offset < output.end:
            begin, data = output.read(offset, 700)
            assert begin >= max(offset, output.start)
            assert data == everything[begin : begin + len(data)] != b""
            assert begin == offset or offset < output.recent_start
            offset = begin + len(data)
        if all(fate == "ok" for _, fate in writes) and everything:
            assert output.start <= max(0, output.end - max(recent, 8192 // 2 - 3000))
            begin, _ = output.read(0, 1)
            assert begin == output.start
        for half in output.halves:
            os.close(half.fd)


def break_disk(patch, fate):
    write, full = os.write, OSError(errno.ENOSPC, "disk full")

    def fail(*_: object):
        raise full

    if fate == "short":
        patch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
    if fate in {"full", "no file"}:
        patch.setattr(os, "write", fail)
    if fate == "no file":
        patch.setattr(os, "open", fail)


def test_reading_from_a_broken_disk_falls_back_to_memory(tmp_path, monkeypatch):
    output = keeper.Output(str(tmp_path / "log"), 1 << 20)
    monkeypatch.setattr(keeper, "RECENT", 4)
    output.append(b"0123456789")
    output.halves[0].fd = os.open(tmp_path, os.O_RDONLY)  # a folder can't be read
    assert output.read(0, 100) == (6, b"6789")
