"""Who listens on a port: real sockets and processes, and a /proc made by hand for what root can't show."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from roundhouse.launchers import strays
from roundhouse.runtime import occupants
from roundhouse.runtime.occupants import Mark, Occupant, listeners, mark_of, marked, words

LISTEN = """
import socket, sys
made = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(made.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def listener():
    """Starts programs that listen; gives pid and port."""
    started = []

    def start(*words, host="127.0.0.1", **environment):
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", LISTEN, host, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        started.append(process)
        return process.pid, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_g4_a_listener_is_named_by_pid_command_and_user(listener, host):
    pid, port = listener("some words", host=host)
    (found,) = listeners(port)
    assert found.pid == pid
    assert found.user == occupants.user_of(os.getpid())
    assert sys.executable in found.command
    assert found.mark is None
    assert words([found]) == f"pid {pid} ({found.command}; user {found.user})"


def test_nobody_listens_where_nobody_does():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert listeners(bound.getsockname()[1]) == []


def test_a_connection_through_a_port_is_no_listener(listener):
    pid, port = listener()
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert [one.pid for one in listeners(port)] == [pid]
        assert listeners(client.getsockname()[1]) == []


def test_all_who_share_a_socket_are_told():
    with (
        socket.create_server(("127.0.0.1", 0)) as made,
        subprocess.Popen(
            [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[made.fileno()]
        ) as child,
    ):
        try:
            assert {one.pid for one in listeners(made.getsockname()[1])} == {os.getpid(), child.pid}
        finally:
            child.kill()


def test_e3_the_marker_tells_whose_engine_it_is(listener):
    pid, port = listener(ROUNDHOUSE_ENGINE="0123abcd:some/model:x")
    assert mark_of(pid) == Mark("0123abcd", "some/model:x")
    assert marked()[pid] == Mark("0123abcd", "some/model:x")
    assert "engine of model some/model:x" in words(listeners(port))


def test_the_marker_is_the_one_that_engines_get():
    assert occupants.MARKER == strays.MARKER


def test_f4_keys_on_a_command_line_are_hidden(listener):
    pid, port = listener("--api-key", "topsecret", "--hf-token=hush", "--max-total-tokens", "8192")
    del pid
    shown = words(listeners(port))
    assert "topsecret" not in shown
    assert "hush" not in shown


def test_f4_hiding_keys_hides_no_figures(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cmdline").write_bytes(b"serve\0--max-total-tokens\0008192\0--api-key\0k\0--admin-key=k\0-x\0\x1b[2J")
    assert (
        occupants.command_of(7, tmp_path)
        == "serve --max-total-tokens 8192 --api-key [hidden] --admin-key=[hidden] -x  [2J"
    )


def row(inode, uid, port, state="0A"):
    return f"   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1 x 100\n"


def test_another_users_socket_has_a_user_and_no_pid(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(
        "  sl local\n" + row(555, 4242, 8002) + row(556, 0, 8003) + row(557, 0, 8002, "01")
    )
    assert listeners(8002, tmp_path) == [Occupant(None, "", "4242")]
    assert words(listeners(8002, tmp_path)) == "a process of user 4242 (only that user and root can see its pid)"


def test_many_are_not_all_listed():
    many = [Occupant(pid, "c", "u") for pid in range(5)]
    assert words(many) == "pid 0 (c; user u) and pid 1 (c; user u) and pid 2 (c; user u) and 2 more"
    assert words([]) == ""


def test_the_unit_is_the_innermost_service(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text("0::/user.slice/user@5.service/app.slice/sglang.service/sub\n")
    assert occupants.unit_of(7, tmp_path) == "sglang.service"
    assert occupants.unit_of(8, tmp_path) is None
