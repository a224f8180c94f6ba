"""Which failures of an engine mean that the request may go to its successor (spec A9)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from roundhouse.api import dispatch
from roundhouse.api.dispatch import Dispatch, EngineEnded
from roundhouse.core.model import Grant, Ticket
from roundhouse.dialects.openai import Operation
from roundhouse.errors import UpstreamError
from roundhouse.ports import Endpoint
from roundhouse.runtime.upstream import Unreachable

HERE = Endpoint("h", 1)
GRANT = Grant(Ticket(1, "m", 0.0), 7, "m")
WORK = SimpleNamespace(
    route=SimpleNamespace(upstream_path="/v1/chat/completions", operation=Operation.CHAT),
    record=SimpleNamespace(id="r"),
    seat=None,
    headers={},
    body=lambda config, name, stream_upstream: b"{}",
)


def make(error: Exception, *, ends: bool = True, endpoint: Endpoint | None = HERE, remote: bool = False):
    """A dispatch to an engine that fails so, and does or doesn't end soon after."""

    async def send(*_):
        raise error

    async def ended(instance, seconds):
        assert (instance, seconds) == (7, dispatch.NOTICE_SECONDS)
        return ends

    models = {"m": SimpleNamespace(remote=endpoint if remote else None, config=None)}
    engines = SimpleNamespace(endpoint=lambda _: endpoint, ends=ended, served_name=lambda _: "m")
    no_slots = SimpleNamespace(has=lambda _: False)
    return Dispatch(models, SimpleNamespace(), SimpleNamespace(send=send), engines, no_slots)


async def test_a9_an_engine_that_is_gone():
    with pytest.raises(EngineEnded):
        await make(AssertionError("not asked"), endpoint=None).send(WORK, GRANT)


async def test_a9_an_engine_that_refuses_because_it_has_ended():
    with pytest.raises(EngineEnded):
        await make(Unreachable("refused")).send(WORK, GRANT)


@pytest.mark.parametrize("why", ["received", "alive", "remote"])
async def test_a9_no_second_try_where_the_first_may_have_been_received_or_the_engine_lives(why):
    error = UpstreamError("went away") if why == "received" else Unreachable("refused")
    with pytest.raises(UpstreamError) as caught:
        await make(error, ends=why != "alive", remote=why == "remote").send(WORK, GRANT)
    assert caught.value is error
