"""The whole program with SGLang and vLLM behind it, as doubles and, where asked for, real: answers, faults, switches.

One Roundhouse serves a kind's tests, so that real engines load as seldom as may be. Only one model fits at a time.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.real.subject import CONTEXT, FLAGS, REAL, double, real
from tests.support import wire
from tests.support.house import Place, Running
from tests.support.processes import Watched, all_of
from tests.support.wire import Api

KINDS = ["double", *(["real"] if len(REAL) == 2 else [])]
ENGINES = ("sglang", "vllm")
LONG = {"max_tokens": 900, "ignore_eos": True}


@pytest.fixture(scope="module", params=KINDS)
def house(request):
    """A model of each engine under the engine's name; one fits."""
    place = Place()
    make = {"double": lambda engine: double(place.folder / engine, engine), "real": real}[request.param]
    subjects = {engine: make(engine) for engine in ENGINES}
    models = {engine: model(subject, place.folder) for engine, subject in subjects.items()}
    settings = {
        "engines": {engine: {"python": str(subject.python)} for engine, subject in subjects.items()},
        "defaults": {"load_timeout": {"expected": "5m", "stalled": "3m", "total": "10m"}},
        "scheduling": {"linger": "off"},
    }
    place.write(models, **settings)
    with pytest.MonkeyPatch.context() as patch, Running(place) as running:
        if request.param == "real":
            patch.setattr(wire, "LIMIT", 300.0)  # the first request asks each engine for its --help, too
        yield SimpleNamespace(api=Api(place.port), running=running, place=place, kind=request.param)


def model(subject, folder):
    """The configuration of a model: its folder, and what a CPU needs."""
    # A load must outlast the time for which the head of an answer is held (spec A3), or no status line is sent.
    told = {"record": folder / f"{subject.engine}.jsonl", "token_delay": 0.02, "load_seconds": 1.0}
    env = subject.environ(**told)
    return {
        "path": str(subject.model),
        "engine": subject.engine,
        "context": CONTEXT,
        "slots": 4,
        "memory": "800MiB",  # of 1 GiB
        "args": list(FLAGS[subject.engine]),
        "env": {name: value.replace("$", "$$") for name, value in env.items()},
    }


@pytest.fixture(scope="module", params=ENGINES)  # a module's, so that all tests of one come together: less to load
def engine(request):
    return request.param


def pid_of(house):
    """The main process of the engine that runs, and nothing else does."""
    found = all_of(house.place.install)
    mains = [pid for name in found if name.startswith("engine") and is_main(pid := int(name.split()[1]))]
    for one in found.values():
        one.close()
    assert len(mains) == 1
    return mains[0]


def is_main(pid):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"--served-model-name" in words


async def test_c2_a_stream_with_its_status_and_its_performance(house, engine):
    await evict(house, engine)
    events = await house.api.events(engine, max_tokens=20, ignore_eos=True, stream_options={"include_usage": True})
    assert events.statuses[0].startswith("⏳")
    assert any(line.startswith("[Performance: ") for line in events.statuses)
    assert {chunk["model"] for chunk in events.chunks if "model" in chunk} == {engine}
    assert events.finishes == ["length"]
    assert events.usages[-1]["completion_tokens"] == 20
    assert {"response_token/s", "load_s", "ttft_s"} <= set(events.usages[-1])
    assert events.text_of_answer
    assert events.done
    assert not events.errors


async def evict(house, engine):
    """Has the other one loaded."""
    other = next(name for name in ENGINES if name != engine)
    assert (await house.api.chat(other, max_tokens=1)).status == 200


async def test_a2_an_answer_in_one_piece(house, engine):
    reply = await house.api.chat(engine, max_tokens=5, ignore_eos=True)
    assert reply.status == 200
    answer = reply.json()
    assert answer["model"] == engine
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 5


async def test_a2_text_completions(house, engine):
    reply = await house.api.post(
        "/v1/completions", {"model": engine, "prompt": "hi", "max_tokens": 4, "ignore_eos": True}
    )
    assert reply.status == 200
    assert reply.json()["usage"]["completion_tokens"] == 4


async def test_a4_refusals_have_one_shape(house, engine):
    """SGLang's own is flat, vLLM's nested."""
    for stream in (False, True):
        asked = {"messages": [{"role": "user", "content": "hello world " * 900}], "stream": stream}
        error = (await house.api.chat(engine, **asked)).error()
        assert "context length" in error["message"]
        assert str(CONTEXT) in error["message"]
    reply = await house.api.chat(engine, max_tokens=999_999)
    assert reply.status == 400
    assert str(CONTEXT) in reply.error()["message"]


async def test_a2_what_an_engine_does_not_know_is_passed_and_ignored(house, engine):
    reply = await house.api.chat(engine, max_tokens=2, timings_per_token=True, some_new_parameter={"a": 1})
    assert reply.status == 200


async def test_a8_a_client_that_leaves_ends_its_answer(house, engine):
    async with house.api.stream(engine, **LONG) as answer:
        while answer.raw.count(b'"content"') < 3:
            assert await answer.part()
        async with asyncio.timeout(12):  # of the minute or the 18 s that it would take
            while not await running_in(house, engine):
                await asyncio.sleep(0.05)
        answer._link.leave()
    async with asyncio.timeout(12):
        while await running_in(house, engine):
            await asyncio.sleep(0.05)


async def running_in(house, engine):
    """How many requests the engine works on, in its own words. SGLang's are some decoding steps old."""
    words = Path(f"/proc/{pid_of(house)}/cmdline").read_text().split("\0")
    direct = Api(int(words[words.index("--port") + 1]))
    if engine == "sglang":
        return (await direct.get("/v1/loads")).json()["loads"][0]["num_running_reqs"]
    text = (await direct.get("/metrics")).body.decode()
    return float(re.search(r"^vllm:num_requests_running\{.*\} (.*)$", text, re.MULTILINE)[1])


async def test_e2_from_one_to_the_other_and_back(house):
    pids = []
    for engine in ("sglang", "vllm", "sglang"):
        assert (await house.api.chat(engine, max_tokens=1)).status == 200
        pids.append(pid_of(house))
        assert [name for name, found in (await house.api.health())["models"].items() if found["state"] == "ready"] == [
            engine
        ]
    assert len(set(pids)) == 3
    assert not Path(f"/proc/{pids[0]}").exists()


async def test_e1_roundhouse_killed_comes_back_to_the_engine(house, engine):
    assert (await house.api.chat(engine, max_tokens=1)).status == 200
    before = pid_of(house)
    house.running.kill()
    await asyncio.to_thread(house.running.start)
    assert (await house.api.model(engine))["state"] == "ready"
    assert (await house.api.chat(engine, max_tokens=1)).status == 200
    assert pid_of(house) == before


async def test_a9_an_engine_killed_is_told_and_comes_again(house, engine):
    async with house.api.stream(engine, **LONG) as answer:
        while answer.raw.count(b'"content"') < 3:
            assert await answer.part()
        before = Watched(pid_of(house))
        before.signal()
        events = await answer.events()
    assert events.errors
    assert events.done
    assert before.gone(10)
    before.close()
    assert (await house.api.chat(engine, max_tokens=1)).status == 200


async def test_e2_roundhouse_ends_and_nothing_is_left(house, engine):
    """In the middle of an answer, too."""
    assert (await house.api.chat(engine, max_tokens=1)).status == 200
    house.running.end()
    assert all_of(house.place.install) == {}
    await asyncio.to_thread(house.running.start)
