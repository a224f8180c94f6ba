from __future__ import annotations

import os
import select

from roundhouse.app.doctor import whose
from roundhouse.runtime.occupants import Occupant, listeners
from tests.app.doctor.conftest import WAITS
from tests.support.keeper_client import RawKeeper


def test_e3_ours_is_what_has_our_mark(box):
    visit = box.installed().visit()
    for mark, ours in ((f"{box.install}:m", True), (f"{box.install}0:m", False), (None, False)):
        _, port = box.listener(mark=mark)
        assert [whose.is_ours(visit, one) for one in listeners(port)] == [ours]
    assert not whose.is_ours(visit, Occupant(None, "", "root"))


def test_before_the_first_start_nothing_is_ours(box):
    _, port = box.listener(mark=":m")
    visit = box.visit()
    assert visit.install is None
    assert not any(whose.is_ours(visit, one) for one in listeners(port))
    assert whose.members(visit) == {}


def test_members_by_model(box):
    visit = box.installed().visit()
    first, _ = box.run(WAITS, mark=f"{box.install}:a")
    second, _ = box.run(WAITS, mark=f"{box.install}:a")
    third, _ = box.run(WAITS, mark=f"{box.install}:b:c")
    box.run(WAITS, mark="other:a")
    assert whose.members(visit) == {"a": {first.pid, second.pid}, "b:c": {third.pid}}


def test_members_by_unit(box, monkeypatch):
    one = {"path": "/x.gguf", "engine": "llamacpp", "service": "one"}
    two = {"path": "/x.gguf", "engine": "llamacpp", "service": "two.service"}
    process, _ = box.run(WAITS)
    other, _ = box.run(WAITS)
    units = {process.pid: "one.service", other.pid: "two.service"}
    monkeypatch.setattr(whose.occupants, "unit_of", lambda pid, _proc: units.get(pid))
    assert whose.members(box.visit({"a": one, "b": two, "c": two})) == {"a": {process.pid}, "two.service": {other.pid}}


def test_e3_what_has_a_live_keeper_is_no_stray(box):
    visit = box.installed().visit()
    stray, _ = box.run(WAITS, mark=f"{box.install}:m")
    folder = box.folder / "roundhouse"
    folder.mkdir()
    keeper = RawKeeper(folder, box.install)
    try:
        assert whose.keepers(visit) == {keeper.socket: keeper.process.pid}
        controller = keeper.controller()
        kept = controller.go("sleep", "60", env=os.environ | {"ROUNDHOUSE_ENGINE": f"{box.install}:m"})["pid"]
        assert {pid for pid, mark in whose.without_keeper(visit).items() if mark.install == box.install} == {stray.pid}
        controller.close()
        with os.fdopen(os.pidfd_open(kept)) as ended:
            keeper.process.kill()
            keeper.process.wait()
            assert select.select([ended], [], [], 10)[0]  # the main process goes with its keeper
        assert whose.keepers(visit) == {keeper.socket: None}
        assert kept not in whose.without_keeper(visit)
    finally:
        keeper.end()
