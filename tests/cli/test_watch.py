import io

import pytest
from rich.console import Console
from rich.progress import Progress

from roundhouse.cli.client import Client
from roundhouse.cli.exits import Refused
from roundhouse.cli.watch import Shown, watching
from tests.cli.commands import error, stub


@pytest.fixture
def bar():
    return Progress(console=Console(file=io.StringIO()))


@pytest.fixture
def shown(bar):
    return Shown(bar, "loading m", {"m"})


def figures(bar):
    (task,) = bar.tasks
    return task.total, task.completed, task.fields["stage"]


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("loading", {"model": "m"}, (None, 0, "starting")),
        ("progress", {"model": "m", "fraction": 0.5, "stage": "reading"}, (100, 50, "reading")),
        ("progress", {"model": "m", "fraction": 1.0, "stage": "reading"}, (100, 99, "reading")),
        ("progress", {"model": "m", "fraction": None, "stage": "compiling"}, (None, 0, "compiling")),
        ("unloading", {"model": "other", "why": "room for m"}, (None, 0, "making room: other leaves")),
        ("unloading", {"model": "m"}, (None, 0, "ending")),
        ("progress", {"model": "other", "fraction": 0.5, "stage": "x"}, (None, 0, "")),
        ("devices", {}, (None, 0, "")),
        ("snapshot", {"models": {"m": {"progress": {"fraction": 0.25, "stage": "x"}}}}, (100, 25, "x")),
        ("snapshot", {"models": {"m": {}}}, (None, 0, "")),
        ("snapshot", {}, (None, 0, "")),
    ],
)
def test_what_each_event_shows(bar, shown, kind, data, expected):
    shown.take(kind, data)
    assert figures(bar) == expected


def test_a_stage_at_its_end_does_not_stop_the_clock(bar, shown):
    shown.take("progress", {"model": "m", "fraction": 1.0, "stage": "one of two"})
    assert not bar.finished


def test_an_unknown_model_is_refused_before_anything_is_shown():
    console = Console(file=io.StringIO(), force_terminal=True)
    with (
        stub({"GET /v1/models/m": (404, error("no m"))}) as there,
        pytest.raises(Refused, match="no m"),
        watching(Client(there.url), "m", "loading", console),
    ):
        pytest.fail("the body must not run")


def test_without_a_terminal_nothing_is_asked():
    with stub({}) as there, watching(Client(there.url), "m", "loading", Console(file=io.StringIO())):
        pass
    assert there.asked == []
