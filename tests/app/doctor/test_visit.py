from __future__ import annotations

import pytest

from roundhouse.app.doctor.visit import Ran, unit_name
from tests.app.doctor.conftest import absent
from tests.support.processes import Watched


def test_a_program_is_run_with_all_that_it_says(box):
    program = box.program("says", "echo one; echo two >&2; exit 3")
    ran = box.visit().run([str(program)])
    assert (ran.code, ran.text, ran.said) == (3, "one\ntwo\n", "two")


def test_a_program_that_takes_too_long_is_ended_with_its_children(box):
    program = box.program("hangs", f"sleep 600 > /dev/null 2>&1 & echo $! > {box.folder}/pid; wait")
    assert box.visit().run([str(program)], limit=2.0) == Ran(None, "hangs was not done after 2 s")
    assert Watched(int((box.folder / "pid").read_text())).gone(within=10)


def test_a_program_that_is_none(box):
    ran = box.visit().run([str(box.folder)])
    assert ran.code == 127
    assert str(box.folder) in ran.said


def test_saying_nothing():
    assert Ran(1, "\n \n").said == "it said nothing"


@pytest.mark.parametrize("answer", [absent, lambda _path: ["no state"]])
def test_without_a_roundhouse_there_is_no_state(box, answer):
    assert box.visit(ask=answer).state() is None


def test_the_installation_is_read_and_never_made(box):
    assert box.visit().install is None
    assert not box.state.exists()
    assert box.installed().visit().install == box.install


def test_units_by_their_whole_name(box):
    one = {"path": "/x.gguf", "engine": "llamacpp"}
    visit = box.visit({"a": one | {"service": "llm"}, "b": one | {"service": "llm.service"}, "c": one})
    assert {unit: [model.id for model in models] for unit, models in visit.units.items()} == {"llm.service": ["a", "b"]}
    assert unit_name("llm@1.service") == "llm@1.service"
