"""What a key may still ask (spec F2): buckets of this run, quotas of a day, what clients are told."""

from __future__ import annotations

import time
from datetime import datetime
from types import SimpleNamespace

import pytest

from roundhouse.api.limits import Limits
from roundhouse.api.record import Record
from roundhouse.config.models import Key
from roundhouse.errors import TooManyRequests
from roundhouse.observe.keyring import Keyring, Use

NOON = datetime(2026, 12, 1, 12, 0, 0).timestamp()  # noqa: DTZ001  # where the test runs


def key(name: str = "kid", **rate: str) -> Key:
    return Key.model_validate({"name": name, "hash": "sha256:" + "0" * 64, "rate": rate})


def record(name: str = "kid", prompt: int = 0, completion: int = 0) -> Record:
    meter = SimpleNamespace(usage={"prompt_tokens": prompt, "completion_tokens": completion})
    return Record("r", 0.0, "/", 0.0, key=name, meter=meter)


class Box:
    """Limits with clocks that the test sets."""

    def __init__(self, ring: Keyring) -> None:
        self.now, self.wall = 0.0, NOON
        self.ring = ring
        self.limits = Limits(ring, lambda: self.now, lambda: self.wall)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def ask(self, name: str = "kid", api: str = "openai", tokens: int = 0) -> dict[bytes, bytes]:
        asked = record(name, prompt=tokens)
        try:
            self.limits.admit(asked, api)
        finally:
            self.told = dict(asked.headers)
        self.limits.spend(asked)
        return self.told


@pytest.fixture
async def box(tmp_path):
    async with Keyring(tmp_path) as ring:
        yield Box(ring)


async def test_f2_requests_over_the_rate_are_refused_until_there_are_some_again(box):
    await box.limits.open([key(requests="3/m")])
    assert [box.ask()[b"x-ratelimit-remaining-requests"] for _ in range(3)] == [b"2", b"1", b"0"]
    with pytest.raises(
        TooManyRequests, match="The key 'kid' may use 3 requests per minute, and none are left"
    ) as error:
        box.ask()
    assert error.value.retry_after == pytest.approx(20.0)
    assert box.told[b"x-ratelimit-reset-requests"] == b"1m0s"
    box.pass_time(20.0)
    box.ask()
    box.ask("another")  # has no limit


async def test_f2_tokens_count_when_an_answer_has_ended_and_what_is_owed_is_waited_for(box):
    await box.limits.open([key(tokens="1k/m")])
    told = box.ask(tokens=1500)
    assert told == {
        b"x-ratelimit-limit-tokens": b"1000", b"x-ratelimit-remaining-tokens": b"1000",
        b"x-ratelimit-reset-tokens": b"0s",
    }  # fmt: skip
    with pytest.raises(TooManyRequests, match="1,000 tokens per minute") as error:
        box.ask()
    assert error.value.retry_after == pytest.approx(501 * 60 / 1000)
    assert box.told[b"x-ratelimit-remaining-tokens"] == b"0"
    box.pass_time(31.0)
    box.ask()


async def test_f2_a_quota_of_a_day_outlives_a_restart_and_ends_at_midnight(box):
    await box.limits.open([key(tokens="1k/d", requests="5/d")])
    box.ask(tokens=1200)
    with pytest.raises(TooManyRequests, match="has used its 1,000 tokens of today; there are new ones at midnight"):
        box.ask()
    later = Box(box.ring)
    later.wall = NOON + 3600
    await later.limits.open([key(tokens="1k/d", requests="5/d")])
    with pytest.raises(TooManyRequests) as error:
        later.ask()
    assert error.value.retry_after == 11 * 3600
    assert later.limits.today("kid") == Use(1, 1200, 0, NOON)
    later.pass_time(11 * 3600)
    assert later.ask()[b"x-ratelimit-remaining-requests"] == b"4"
    assert later.limits.today("kid").requests == 1


async def test_f2_a_refused_request_costs_nothing(box):
    await box.limits.open([key(requests="2/m", tokens="10/m")])
    box.ask(tokens=50)
    for _ in range(5):
        with pytest.raises(TooManyRequests):
            box.ask()
    assert box.told[b"x-ratelimit-remaining-requests"] == b"1"
    assert box.limits.today("kid").requests == 1


async def test_f2_anthropics_clients_are_told_in_their_words(box):
    await box.limits.open([key(requests="60/m", tokens="10k/m")])
    told = box.ask(api="anthropic")
    assert told[b"anthropic-ratelimit-requests-limit"] == b"60"
    assert told[b"anthropic-ratelimit-requests-remaining"] == b"59"
    assert told[b"anthropic-ratelimit-tokens-reset"].endswith(b"Z")
    assert not any(name.startswith(b"x-ratelimit") for name in told)


async def test_f2_other_keys_leave_a_running_limit_as_it_is_and_a_new_rate_begins_anew(box):
    await box.limits.open([key(requests="2/m")])
    box.ask()
    box.limits.set([key(requests="2/m"), key("new", requests="1/s")])
    assert box.ask()[b"x-ratelimit-remaining-requests"] == b"0"
    assert box.ask("new")[b"x-ratelimit-limit-requests"] == b"1"
    box.limits.set([key(requests="9/m")])
    assert box.ask()[b"x-ratelimit-remaining-requests"] == b"8"
    box.limits.set([])
    assert box.ask() == {}
    assert box.limits.told("kid") == {}


async def test_f2_who_is_nobody_is_not_counted(box):
    await box.limits.open([])
    box.ask("", tokens=10)
    assert box.limits.today("") == Use()
    assert await box.ring.used() == {}


async def test_f2_figures_that_are_none_are_none(box):
    await box.limits.open([key(tokens="10/m")])
    odd = Record(
        "r", 0.0, "/", 0.0, key="kid", meter=SimpleNamespace(usage={"prompt_tokens": "x", "completion_tokens": -3})
    )
    box.limits.spend(odd)
    box.limits.spend(Record("r", 0.0, "/", 0.0, key="kid"))
    assert box.limits.told("kid") == {"tokens": {"limit": "10/m", "left": 10}}


async def test_f2_counting_a_request_takes_microseconds(box):
    """No figure is asserted (timings are measured elsewhere): that it asks no disk is."""
    await box.limits.open([key(requests="1M/m", tokens="1M/d")])
    box.ring._database.run = None
    began = time.perf_counter()
    for _ in range(100):
        box.ask(tokens=1)
    assert time.perf_counter() > began
