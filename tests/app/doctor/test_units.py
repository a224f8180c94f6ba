"""Unit states: judged from properties, and asked of a systemctl that a test writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from roundhouse.app.doctor.units import Unit, check, judge
from tests.app.doctor.conftest import told

GOOD = {
    "LoadState": "loaded",
    "ActiveState": "inactive",
    "SubState": "dead",
    "Restart": "no",
    "User": "ann",
    "UnitFileState": "disabled",
    "KillMode": "control-group",
    "NRestarts": "0",
}


def judged(unit=None, **more):
    return list(judge(unit or Unit("sglang.service", ("a", "b"), account="ann"), GOOD | more))


def test_g4_a_good_unit():
    assert told(judged()) == ["sglang.service: It is inactive (dead); for a, b. → "]


@pytest.mark.parametrize(
    ("more", "severity", "what", "remedy"),
    [
        ({"LoadState": "not-found"}, "error", "no such unit: not-found", "roundhouse install"),
        ({"LoadState": "masked"}, "error", "masked", "systemctl unmask sglang.service"),
        ({"LoadState": "bad-setting", "LoadError": '"bad line"'}, "error", "bad line", ""),
        ({"ActiveState": "failed", "Result": "oom-kill"}, "error", "oom-kill", "journalctl -u sglang.service -n 50"),
        ({"Restart": "always"}, "warning", "Restart=always", "Restart=no"),
        ({"NRestarts": "7"}, "warning", "7 times", "journalctl"),
        ({"UnitFileState": "enabled"}, "warning", "at boot", "systemctl disable sglang.service"),
        ({"KillMode": "process"}, "warning", "outlive", "KillMode=mixed"),
        ({"NeedDaemonReload": "yes"}, "warning", "changed", "daemon-reload"),
        ({"User": ""}, "note", "as root", "User="),
    ],
)
def test_g4_what_is_wrong_with_a_unit(more, severity, what, remedy):
    (found,) = told(judged(**more), severity)
    assert what in found
    assert remedy in found


def test_a_unit_of_the_users_manager_is_asked_there():
    unit = Unit("x.service", ("a",), of_user=True, account="ann")
    found = told(judged(unit, ActiveState="failed", User=""))
    assert "journalctl --user-unit x.service" in found[0]
    assert "systemctl --user reset-failed" in found[0]
    assert len(found) == 1


def test_c7_a_start_script_needs_root_or_the_drop_in():
    unit = Unit("x.service", ("a",), scripts=True, account="ann")
    assert "drop-in is missing" in told(judged(unit), "error")[0]
    assert told(judged(unit, DropInPaths="/etc/systemd/system/x.service.d/50-roundhouse.conf"), "error") == []
    assert "runs as bob, but we are ann" in told(judged(unit, User="bob"), "error")[0]
    assert told(judged(Unit("x.service", ("a",), scripts=True), User="bob"), "error") == []


SYSTEMCTL = """
echo "$@" >> {record}
[ "$1" = --user ] && {{ echo "Failed to connect to bus: No medium found" >&2; exit 1; }}
echo LoadState=loaded
echo ActiveState=failed
echo Result=exit-code
echo "Restart=always"
"""
MODELS = {"m": {"path": "/m.gguf", "engine": "llamacpp", "service": "llamacpp"}}


def test_g4_systemctl_is_asked_about_each_unit(box):
    record = box.folder / "record"
    box.program("systemctl", SYSTEMCTL.format(record=record))
    found = list(check(box.visit(MODELS)))
    assert "exit-code" in told(found, "error")[0]
    assert "Restart=always" in told(found, "warning")[0]
    assert record.read_text().startswith("--system show llamacpp.service --property=LoadState,")


def test_g4_a_manager_that_does_not_answer(box):
    box.program("systemctl", SYSTEMCTL.format(record=Path("/dev/null")))
    (found,) = told(check(box.visit(MODELS, systemd="user")))
    assert "No medium found" in found


def test_without_systemctl_units_can_not_be_run(box):
    assert "no systemctl" in told(check(box.visit(MODELS, environ={"PATH": str(box.bin)})), "error")[0]


def test_without_units_nobody_is_asked(box):
    assert list(check(box.visit())) == []
