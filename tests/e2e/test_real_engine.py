"""A real llama.cpp behind the running program, asked through the official `openai` package (spec A2, A4, B3)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import openai
import psutil
import pytest

from tests.support.gguf_files import SENTENCE, write_tiny_chat, write_tiny_embedding
from tests.support.house import Running
from tests.support.real_engine import real_build
from tests.support.wire import Api

pytestmark = pytest.mark.real

BETA = "This is beta speaking : another model with its own words ."
EXTRA = {"response_token/s", "total_s", "load_s", "queue_s", "ttft_s"}
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="session")
def llama():
    """The program; skips where there is none."""
    return real_build()


@pytest.fixture(scope="module")
def house(llama, shared_place):
    """Two chat models of which one fits beside the embedding model."""
    place = shared_place
    folder = place.folder
    write_tiny_chat(folder / "alpha.gguf", "alpha")
    write_tiny_chat(folder / "beta.gguf", "beta", BETA)
    write_tiny_embedding(folder / "vectors.gguf")
    (folder / "cut.gguf").write_bytes((folder / "alpha.gguf").read_bytes()[:-100_000])
    small = {"context": 512, "slots": 2, "args": ["--threads", 1]}
    models = {
        name: {"path": str(folder / f"{name}.gguf"), "memory": "900MiB", **small} for name in ("alpha", "beta", "cut")
    }
    write_tiny_chat(folder / "endless.gguf", "endless", n_ctx=65536)
    endless = {**small, "context": 65536, "slots": 1, "unlisted": True}  # some 20 s of tokens
    models["endless"] = {"path": str(folder / "endless.gguf"), "memory": "900MiB", **endless}
    models["vectors"] = {"path": str(folder / "vectors.gguf"), "memory": "300MiB", "args": ["--threads", 1]}
    settings = {"engines": {"llamacpp": {"binary": llama.argv[0]}}} if len(llama.argv) == 1 else {}
    place.write(models, devices={"ram": "1300MiB"}, **settings)
    with Running(place) as running:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{place.port}/v1", api_key="any", max_retries=0, timeout=120)
        with client:
            yield SimpleNamespace(api=running.api, client=client, running=running)


def test_a2_chat_in_one_piece(house):
    answer = house.client.chat.completions.create(model="alpha", messages=HI)
    assert answer.choices[0].message.content.strip() == SENTENCE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "alpha"
    assert answer.usage.completion_tokens >= len(SENTENCE.split())
    assert set(answer.usage.model_dump()) >= EXTRA - {"ttft_s"}


def test_a2_chat_as_a_stream_that_switches_models(house):
    house.client.chat.completions.create(model="alpha", messages=HI)
    stream = house.client.chat.completions.create(
        model="beta", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text.strip() == BETA
    assert {chunk.model for chunk in chunks} == {"beta"}
    assert set(chunks[-1].usage.model_dump()) >= EXTRA
    statuses = [chunk.event["data"]["description"] for chunk in chunks if hasattr(chunk, "event")]
    assert [line for line in statuses if line.startswith("[Performance: ")]


def test_a2_text_completions_and_embeddings(house):
    assert house.client.completions.create(model="alpha", prompt="hi", max_tokens=5).choices[0].text
    found = house.client.embeddings.create(model="vectors", input=["abc", "xyz"], encoding_format="float")
    assert [len(item.embedding) for item in found.data] == [64, 64]
    assert found.model == "vectors"


async def test_a2_tokenize(house):
    reply = await house.api.post("/tokenize", {"model": "alpha", "content": "I am alpha"})
    assert len(reply.json()["tokens"]) >= 3
    back = await house.api.post("/detokenize", {"model": "alpha", "tokens": reply.json()["tokens"]})
    assert back.json()["content"].strip() == "I am alpha"


def test_a1_models(house):
    listed = {model.id: model for model in house.client.models.list()}
    assert list(listed) == ["alpha", "beta", "cut", "vectors"]
    assert listed["alpha"].engine == "llamacpp"
    assert listed["alpha"].context_length == 512
    assert listed["alpha"].size > 1_000_000
    assert house.client.models.retrieve("beta").id == "beta"


def test_a4_errors_are_the_packages_own_exceptions(house):
    with pytest.raises(openai.NotFoundError) as unknown:
        house.client.chat.completions.create(model="alfa", messages=HI)
    assert "alpha" in unknown.value.message
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        house.client.chat.completions.create(model="alpha", messages=[{"role": "user", "content": "a b " * 2000}])
    with pytest.raises(openai.APIStatusError) as cut:
        house.client.chat.completions.create(model="cut", messages=HI)
    assert cut.value.status_code == 503
    assert "cut short" in cut.value.message
    with pytest.raises(openai.APIStatusError) as wrong:
        house.client.embeddings.create(model="alpha", input="a")
    assert wrong.value.status_code == 501


async def test_b4_an_answer_with_logprobs_stays_clean(house):
    headers = {"user-agent": "curl/8", "x-roundhouse-status": "content"}
    events = await house.api.events("alpha", headers, logprobs=True)
    assert events.done
    assert events.text_of_answer.strip() == SENTENCE


@pytest.mark.parametrize("stream", [True, False])
async def test_a8_a_client_that_leaves_frees_its_slot(house, stream):
    """Asked of the engine itself, whose `/slots` tells which of them are at work."""
    endless = {"max_tokens": -1, "ignore_eos": True}
    assert (await house.api.chat("endless")).status == 200
    words = psutil.Process((await house.api.model("endless"))["pid"]).cmdline()
    engine = Api(int(words[words.index("--port") + 1]))
    asking = asyncio.get_running_loop().create_task(house.api.chat("endless", **endless, stream=stream))
    await busy_slots(engine, at_least=1)
    asking.cancel()
    await busy_slots(engine, at_most=0)


@pytest.mark.parametrize("stream", [True, False])
async def test_h_a_cancelled_answer_frees_its_slot_and_its_client_is_told(house, stream):
    assert (await house.api.chat("endless")).status == 200
    words = psutil.Process((await house.api.model("endless"))["pid"]).cmdline()
    engine = Api(int(words[words.index("--port") + 1]))
    name = f"cancel-{stream}"
    endless = {"max_tokens": -1, "ignore_eos": True, "headers": {"x-request-id": name}}
    asking = asyncio.get_running_loop().create_task(house.api.chat("endless", **endless, stream=stream))
    await busy_slots(engine, at_least=1)
    told = (await house.api.get(f"/api/v1/requests/{name}")).json()
    assert (told["state"], told["model"]) == ("answering", "endless")
    assert (await house.api.post(f"/api/v1/requests/{name}/cancel")).json()["cancelled"] == "answering"
    reply = await asking
    assert reply.status == (200 if stream else 499)
    assert "request_cancelled" in reply.body.decode()
    await busy_slots(engine, at_most=0)
    answer = await asyncio.to_thread(house.client.chat.completions.create, model="endless", messages=HI, max_tokens=3)
    assert answer.choices[0].message.content


async def busy_slots(engine, at_least=0, at_most=9):
    async with asyncio.timeout(30):
        while True:
            reply = await engine.get("/slots")
            if reply.status != 200:
                pytest.skip("this engine does not tell its slots")
            if at_least <= sum(slot["is_processing"] for slot in reply.json()) <= at_most:
                return
            await asyncio.sleep(0.02)


def test_c5_history_of_loads_is_kept(house):
    ready = [line for line in house.running.log_lines() if line["event"] == "model ready"]
    assert {line["model"] for line in ready} >= {"alpha", "vectors"}
    assert all(line["seconds"] > 0 for line in ready)
