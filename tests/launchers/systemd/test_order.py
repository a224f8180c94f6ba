"""What a start orders: what an engine's environment is, and what is refused before anything is touched."""

from __future__ import annotations

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd.order import check, script, transient_properties
from roundhouse.launchers.systemd.place import Places
from roundhouse.launchers.systemd.state import UnitState
from roundhouse.ports import Command, Tag

TAG = Tag("model", "settings", 4711, 1.5)
ENVIRON = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/home/me",
    "NOTIFY_SOCKET": "/x",
    "INVOCATION_ID": "1",
    "BASH_FUNC_x%%": "()",
}


def exports(text: str) -> list[str]:
    return [line.removeprefix("export ") for line in text.splitlines() if line.startswith("export ")]


def text(command: Command, tmp_path) -> str:
    return script(TAG, command, "install", ENVIRON, tmp_path / "pipe")


MARKS = ["ROUNDHOUSE_ENGINE=install:model", "ROUNDHOUSE_UNIT=1", "SPT_NOENV=1", "PORT=4711"]


def test_a_unit_made_by_us_has_our_environment_less_what_is_for_us_alone(tmp_path):
    assert exports(text(Command(("true",), env={"A": "b"}), tmp_path)) == [
        "PATH=/usr/bin:/bin",
        "HOME=/home/me",
        "A=b",
        *MARKS,
    ]


def test_a_named_unit_keeps_its_own(tmp_path):
    assert exports(text(Command(("true",), env={"A": "b"}, unit="x"), tmp_path)) == ["A=b", *MARKS]


def test_a_program_is_looked_for_on_our_path_too(tmp_path):
    assert text(Command(("true",), unit="x"), tmp_path).endswith("exec /usr/bin/true\n")
    assert text(Command(("nosuchprogram",), unit="x"), tmp_path).endswith("exec nosuchprogram\n")
    assert text(Command(("./run",), unit="x"), tmp_path).endswith("exec ./run\n")


def test_a_relative_script_is_one_of_its_folder(tmp_path):
    with pytest.raises(LoadFailed, match=f"{tmp_path}/run.sh does not exist"):
        text(Command(("./run.sh",), cwd=str(tmp_path), script=True), tmp_path)


def test_memory_is_limited_only_if_asked(tmp_path):
    assert "MemoryMax" not in dict(transient_properties("m", "u.service", tmp_path, None))
    assert dict(transient_properties("m", "u.service", tmp_path, 5))["MemoryMax"].value == 5


@pytest.mark.parametrize(
    ("load", "words"), [("masked", "unmask"), ("not-found", "does not exist"), ("merged", "can't be loaded")]
)
def test_a_unit_that_is_not_there_is_told(tmp_path, load, words):
    places = Places(tmp_path, tmp_path, tmp_path, public=False)
    with pytest.raises(LoadFailed, match=words):
        check(TAG, Command(("true",), unit="x"), UnitState("x.service", load=load), places, user=False)


def test_without_rights_a_broken_unit_stays_broken(tmp_path):
    places = Places(tmp_path, tmp_path, None, public=False)
    with pytest.raises(LoadFailed, match="setting"):
        check(TAG, Command(("true",), unit="x"), UnitState("x.service", load="bad-setting"), places, user=False)
