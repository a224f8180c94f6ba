"""`plan` and `apply`, as people see them."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import run
from tests.support.house import Place, Running, Scripted


@pytest.fixture(scope="module")
def running():
    place = Place()
    one = Scripted(place.folder, "one")
    place.write([one], reload={"watch": False})
    with Running(place) as found:
        yield found


@pytest.fixture
def url(running):
    return f"http://127.0.0.1:{running.place.port}"


@pytest.fixture
def file(running):
    """The configuration file, put back afterwards."""
    good = running.place.file.read_text()
    yield running.place.file
    running.place.file.write_text(good)
    run("apply", "--url", f"http://127.0.0.1:{running.place.port}")


def edit(file, **models) -> None:
    told = json.loads(file.read_text())
    for name, settings in models.items():
        told["models"][name] = told["models"].get(name, told["models"]["one"]) | settings
    file.write_text(json.dumps(told))


def test_g3_plan_says_what_would_change_and_apply_does_it(url, file):
    assert "Nothing would change" in run("plan", "--url", url).out
    assert run("load", "one", "--url", url).code == 0
    edit(file, one={"context": 4096}, two={})
    planned = run("plan", "--url", url)
    assert planned.code == 0
    assert "  model one: changed, restart\n      context: null -> 4096\n  model two: added, at once\n" in planned.out
    assert "one: restarted, after running answers. All other models keep running." in planned.out
    assert "Apply it: roundhouse apply" in planned.out
    assert run("plan", "--json", "--url", url).json["restarts"] == ["one"]
    applied = run("apply", "--url", url)
    assert (applied.code, "has changed" in applied.out) == (0, True)
    assert run("apply", "--json", "--url", url).json["changes"] == []


def test_g3_another_file_is_planned_in_its_place(url, file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(file.read_text())
    edit(other, two={}, one={"description": "x" * 100})
    shown = run("plan", str(other), "--url", url).out
    assert "model two: added" in shown
    assert f"description: null -> {'x' * 59}…" in shown
    assert "Every model keeps running." in shown
    assert "roundhouse apply" not in shown
    assert run("plan", str(tmp_path / "none"), "--url", url).code == 2


def test_e4_a_bad_file_exits_2_with_the_line_and_is_in_the_status(url, file):
    file.write_text("models:\n  one:\n    pth: x\n")
    for command in ("plan", "apply"):
        shown = run(command, "--url", url)
        assert shown.code == 2
        assert ":3: models.one.pth" in shown.err
        assert "Nothing changes until that is mended" in shown.err
    assert run("plan", "--json", "--url", url).json["error"]["line"] == 3


def test_nobody_there_is_3():
    assert run("plan", "--url", "http://127.0.0.1:1").code == 3
    assert run("apply", "--url", "http://127.0.0.1:1").code == 3
