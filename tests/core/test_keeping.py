"""How long an idle model is kept (spec D8)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.habits import Habits
from roundhouse.core.keeping import ENOUGH_IDLE, LATER, TTL_LEAST, TTL_MOST, adapted, break_even, idle_limit
from roundhouse.core.model import Device, Fleet, ModelSpec, ModelState
from tests.core.story import Story, done, grant, nothing, ready, start, stop

GAPS = st.lists(st.floats(TTL_LEAST + 1, 20_000.0), min_size=1, max_size=30).map(tuple)


def auto(load: float) -> ModelState:
    return ModelState(ModelSpec("m", ttl_auto=True), {}, load_seconds=load)


def test_d8_a_ttl_that_was_set_is_kept_to():
    assert idle_limit(ModelState(ModelSpec("m", ttl=77.0), {}), Habits(idle=(900.0,) * 20)) == 77.0
    assert idle_limit(ModelState(ModelSpec("m"), {}), Habits()) is None


def test_d8_auto_is_ten_loads_within_five_minutes_and_an_hour():
    assert [break_even(load) for load in (0.0, 10.0, 30.0, 45.0, 360.0, 2000.0)] == [300, 300, 300, 450, 3600, 3600]
    assert idle_limit(auto(60.0), Habits()) == 600.0
    assert idle_limit(replace(auto(0.0), load_seconds=None), Habits()) == 300.0


def test_d8_a_model_that_always_comes_back_late_is_not_kept_in_vain():
    every_half_hour = (1800.0,) * ENOUGH_IDLE
    assert idle_limit(auto(60.0), Habits(idle=every_half_hour)) == TTL_LEAST
    assert idle_limit(auto(60.0), Habits(idle=every_half_hour[1:])) == 600.0


def test_d8_a_model_that_is_dear_to_load_is_kept_through_its_usual_idle_time():
    every_half_hour = (1800.0,) * ENOUGH_IDLE
    assert idle_limit(auto(300.0), Habits(idle=every_half_hour)) == 1800.0 * LATER


def cost(limit, idle, worth):
    return sum(gap if gap <= limit else limit + worth for gap in idle)


@given(GAPS, st.floats(TTL_LEAST, TTL_MOST))
def test_d8_no_limit_within_the_bounds_would_have_cost_less_but_for_the_margin(idle, worth):
    limit = adapted(worth, idle)
    assert TTL_LEAST <= limit <= TTL_MOST
    others = [min(max(other, TTL_LEAST), TTL_MOST) for other in (0.0, worth, *idle)]
    best = min(cost(other, idle, worth) + (LATER - 1) * other * len(idle) for other in others)
    assert cost(limit, idle, worth) <= best + 1e-6


@given(GAPS, st.floats(30.0, TTL_MOST / 10))
def test_d8_break_even_costs_at_most_twice_what_a_clairvoyant_pays(idle, load):
    worth = break_even(load)
    clairvoyant = sum(min(gap, worth) for gap in idle)
    assert cost(worth, idle, worth) <= 2 * clairvoyant + 1e-6


def test_d8_an_idle_model_leaves_at_its_automatic_ttl():
    spec = ModelSpec("alpha", claim={"gpu0": 6}, ttl_auto=True)
    story = Story(Fleet([spec], [Device("gpu0", 10)]))
    story.asks(1, "alpha") << start(1, "alpha")
    story >> ready(1, 1, seconds=50.0) << grant(1, 1)
    story >> done(1) << nothing
    story.after(499.0) << nothing
    story.after(1.0) << stop(1, "alpha", "idle")
