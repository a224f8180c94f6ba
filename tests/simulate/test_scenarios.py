from __future__ import annotations

import pytest

from roundhouse.simulate.scenarios import SCENARIOS
from roundhouse.simulate.world import play


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_asks_for_models_that_its_box_can_load(name):
    scenario = SCENARIOS[name]
    outcome = play(scenario.setup.without_limits(), scenario.traffic(1800.0, 0), 1800.0)
    assert any(fate.done for fate in outcome.fates)
    assert not any(fate.error for fate in outcome.fates)
    assert {fate.request.model for fate in outcome.fates} == scenario.setup.timing.keys()


def test_background_tasks_that_are_known_cause_no_switch():
    marked, unmarked = (SCENARIOS[name] for name in ("openwebui", "openwebui-unmarked"))
    loads = [len(play(each.setup, each.traffic(3600.0, 0), 3600.0).stays) for each in (marked, unmarked)]
    assert loads[0] == 1
    assert loads[1] > 10


def test_embeddings_stay_beside_chats():
    scenario = SCENARIOS["retrieval"]
    stays = play(scenario.setup, scenario.traffic(3600.0, 0), 3600.0).stays
    assert sum(stay.model == "E" for stay in stays) == 1
