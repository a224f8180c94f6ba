"""What a unit's properties say of one run."""

from __future__ import annotations

import pytest

from roundhouse.launchers.systemd.state import UnitState, read_state

PROPERTIES = {
    "Id": "x.service",
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "InvocationID": bytes(range(16)),
    "Job": [7, "/org/freedesktop/systemd1/job/7"],
    "MainPID": 42,
    "ExecMainCode": 0,
    "ExecMainStatus": 0,
    "Result": "success",
    "NRestarts": 2,
    "ExecStart": [["/bin/sh", ["/bin/sh", "/run/x"], False, 0, 0, 0, 0, 0, 0, 0]],
    "User": "games",
    "InactiveExitTimestamp": 1_500_000,
}
RUN = "000102030405060708090a0b0c0d0e0f"


def test_properties_are_read():
    state = read_state(PROPERTIES)
    assert state == UnitState(
        "x.service",
        "loaded",
        "active",
        "running",
        RUN,
        True,
        42,
        0,
        0,
        "success",
        2,
        ("/bin/sh", "/run/x"),
        "games",
        since=1.5,
    )
    bare = read_state({"Id": "y.target", "LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"})
    assert bare == UnitState("y.target", load="not-found")


def test_several_commands_are_none_of_ours():
    assert read_state(PROPERTIES | {"ExecStart": PROPERTIES["ExecStart"] * 2}).argv == ()


@pytest.mark.parametrize(
    ("change", "ended", "settled"),
    [
        ({}, False, False),
        ({"active": "activating", "sub": "start-pre"}, False, False),
        ({"active": "deactivating", "sub": "stop-sigterm"}, False, False),
        ({"active": "inactive", "job": False}, True, True),
        ({"active": "failed", "job": False}, True, True),
        ({"active": "inactive", "job": True}, True, False),  # trap 2: a restart passes through inactive
        ({"active": "activating", "sub": "auto-restart"}, True, False),
        ({"active": "activating", "sub": "auto-restart-queued"}, True, False),
        ({"sub": "exited"}, True, False),
        ({"invocation": "ff"}, True, False),
    ],
)
def test_trap_2_whether_a_run_is_over_and_whether_it_stays_so(change, ended, settled):
    fields = {"active": "active", "sub": "running", "invocation": RUN} | change
    state = UnitState("x.service", **fields)
    assert (state.ended(RUN), state.settled) == (ended, settled)


@pytest.mark.parametrize(
    ("code", "status", "invocation", "expected"),
    [(1, 3, RUN, 3), (1, 0, RUN, 0), (2, 9, RUN, -9), (3, 11, RUN, -11), (0, 0, RUN, None), (1, 3, "ff", None)],
)
def test_trap_3_how_the_main_process_ended(code, status, invocation, expected):
    assert UnitState("x.service", invocation=invocation, code=code, status=status).exit_code(RUN) == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"result": "start-limit-hit"}, "too often"),
        ({"result": "timeout", "code": 2, "status": 9}, "too long"),
        ({"result": "oom-kill", "code": 2, "status": 9}, "memory"),
        ({"result": "exit-code", "code": 1, "status": 200}, "WorkingDirectory"),
        ({"result": "exit-code", "code": 1, "status": 4}, "exit code 4"),
        ({"result": "signal", "code": 2, "status": 6}, "signal 6"),
        ({"result": "resources"}, "resources"),
    ],
)
def test_why_it_failed_is_told(fields, words):
    assert words in UnitState("x.service", **fields).how
