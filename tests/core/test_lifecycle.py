"""The table of an engine's life: complete, closed, and the only way to move."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from roundhouse.core.lifecycle import TRANSITIONS, Cue, advance, diagram
from roundhouse.core.model import Phase

ALL = list(itertools.product(Phase, Cue))


@pytest.mark.parametrize("move", sorted(TRANSITIONS))
def test_moves_in_the_table_are_taken(move):
    assert advance(*move) is TRANSITIONS[move]


@pytest.mark.parametrize("move", [m for m in ALL if m not in TRANSITIONS])
def test_any_other_move_raises_and_names_it(move):
    with pytest.raises(LookupError, match=f"{move[0].name} can't be {move[1].name}"):
        advance(*move)


def test_every_phase_can_be_reached_and_left_for_good():
    reached = {Phase.STARTING} | {after for after in TRANSITIONS.values() if after is not None}
    assert reached == set(Phase)
    assert all(TRANSITIONS[phase, Cue.GONE] is None for phase in Phase)


def test_memory_is_counted_until_gone():
    assert {cue for (_, cue), after in TRANSITIONS.items() if after is None} == {Cue.GONE}


def test_only_ready_engines_are_drained_and_only_drained_ones_are_called_back():
    assert [p for (p, cue), after in TRANSITIONS.items() if after is Phase.DRAINING] == [Phase.READY]
    assert [p for (p, cue) in TRANSITIONS if cue is Cue.RECALLED] == [Phase.DRAINING]


def test_a_probe_that_passes_too_late_does_not_revive():
    assert advance(Phase.STOPPING, Cue.PASSED_PROBE) is Phase.STOPPING


def test_diagram_has_one_arrow_per_move_and_a_beginning():
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> STARTING: Start"]
    assert len(lines) == len(TRANSITIONS) + 2
    assert "    DRAINING --> READY: RECALLED" in lines
    assert "    STOPPING --> [*]: GONE" in lines


def test_the_diagram_in_the_architecture_page_is_drawn_from_the_table():
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    assert diagram() in page
