"""`roundhouse replay`: what people and scripts see of it."""

from __future__ import annotations

import json

from roundhouse.observe.journal import Bounds, Journal
from tests.cli.commands import run
from tests.observe.test_journal import NEVER, Busy
from tests.observe.test_replay import altered


async def made(path):
    busy = Busy()
    async with Journal(path, busy.fleet, busy.clock, Bounds(every=NEVER)) as journal:
        busy.asks(journal, 10)
    return path


async def test_all_the_same(tmp_path):
    file = await made(tmp_path / "journal.db")
    shown = run("replay", str(file))
    assert shown.code == 0, shown.err
    assert "21 events, 11 decisions" in shown.out
    assert shown.out.rstrip().endswith("all the same.")
    assert json.loads(run("replay", str(file), "--since", "1h", "--json").out)["events"] == 21


async def test_the_first_difference_ends_with_1(tmp_path):
    file = await made(tmp_path / "journal.db")
    altered(file, 3, lambda line: line[2].clear())
    shown = run("replay", str(file))
    assert shown.code == 1
    assert "then the first difference" in shown.out
    assert "recorded: []" in shown.out
    assert 'now: [["Grant", 2, 1, "alpha"]]' in shown.out


def test_what_can_not_be_played_is_said(tmp_path):
    shown = run("replay", str(tmp_path / "none.db"))
    assert (shown.code, shown.out) == (1, "")
    assert "there is no journal" in shown.err
    assert run("replay", str(tmp_path / "none.db"), "--since", "soon").code == 2
