"""The official `anthropic` package against the running program with a real llama.cpp."""

from __future__ import annotations

from types import SimpleNamespace

import anthropic
import pytest

from roundhouse.api.auth import hash_key
from tests.support.gguf_files import SENTENCE, write_tiny_chat
from tests.support.house import Place, Running, Scripted
from tests.support.real_engine import real_build
from tests.support.wire import Api

pytestmark = pytest.mark.real
HI = [{"role": "user", "content": "hi"}]
TOOL = {"name": "weather", "description": "Tells the weather.", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def house(shared_place):
    place, build = shared_place, real_build()
    write_tiny_chat(place.folder / "alpha.gguf", "alpha")
    write_tiny_chat(place.folder / "endless.gguf", "endless", n_ctx=65536)
    (place.folder / "broken.gguf").write_bytes(b"no model")
    small = {"context": 1024, "slots": 1, "args": ["--threads", 1], "memory": "300MiB"}
    models = {name: {"path": str(place.folder / f"{name}.gguf"), **small} for name in ("alpha", "broken")}
    binary = {"llamacpp": {"binary": build.argv[0]}} if len(build.argv) == 1 else {}
    place.write(models, engines=binary)
    with Running(place) as running:
        url = f"http://127.0.0.1:{place.port}"
        with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, timeout=60) as client:
            yield SimpleNamespace(client=client, api=running.api, place=place)


def test_a_message_in_one_piece(house):
    message = house.client.messages.create(model="alpha", max_tokens=200, messages=HI, system="Be yourself.")
    assert message.content[0].text.strip() == SENTENCE
    assert (message.model, message.role, message.stop_reason) == ("alpha", "assistant", "end_turn")
    assert message.usage.output_tokens > 10
    assert message.usage.input_tokens > 3


async def test_a_stream_while_the_model_loads(house):
    await house.api.post("/api/v1/models/alpha/unload")
    with house.client.messages.stream(model="alpha", max_tokens=200, messages=HI) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.strip() == SENTENCE
    assert final.content[0].text == text
    assert final.usage.output_tokens > 10
    assert final.stop_reason == "end_turn"


def test_a_limit(house):
    message = house.client.messages.create(model="alpha", max_tokens=2, messages=HI)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)


def test_tokens_are_counted_by_the_engine_when_it_is_loaded(house):
    used = house.client.messages.create(model="alpha", max_tokens=2, messages=HI).usage
    counted = house.client.messages.count_tokens(model="alpha", messages=HI)
    assert counted.input_tokens == used.input_tokens + used.cache_read_input_tokens


async def test_and_estimated_when_it_is_not(house):
    await house.api.post("/api/v1/models/alpha/unload")
    counted = house.client.messages.count_tokens(model="alpha", messages=[{"role": "user", "content": "x" * 3500}])
    assert counted.input_tokens == pytest.approx(1000, rel=0.02)
    assert (await house.api.model("alpha"))["state"] == "unloaded"


def test_an_unknown_model(house):
    for ask in (house.client.messages.create, house.client.messages.count_tokens):
        more = {"max_tokens": 2} if ask == house.client.messages.create else {}
        with pytest.raises(anthropic.NotFoundError, match="did you mean 'alpha'"):
            ask(model="alpa", messages=HI, **more)


def test_a_failed_load_is_told_in_words(house):
    with pytest.raises(anthropic.APIStatusError, match="GGUF") as error:
        house.client.messages.create(model="broken", max_tokens=2, messages=HI)
    assert error.value.status_code == 503
    assert error.value.body["error"]["type"] == "overloaded_error"


def test_a_bad_request(house):
    with pytest.raises(anthropic.BadRequestError, match="is not supported"):
        house.client.messages.create(
            model="alpha", max_tokens=2, messages=[{"role": "user", "content": [{"type": "video"}]}]
        )


@pytest.fixture(scope="module")
def scripted():
    """An engine that answers what its requests say."""
    place = Place()
    keys = [
        {"name": "plain", "hash": hash_key("sk-plain"), "apis": ["anthropic"]},
        {"name": "openai", "hash": hash_key("sk-openai"), "apis": ["openai"]},
    ]
    warm = Scripted(place.folder, "warm", preload=True)
    endless = Scripted(place.folder, "endless", set={"fake": {"endless": True}})
    dying = Scripted(place.folder, "dying", set={"fake": {"die_after": 2}})
    place.write([warm, endless, dying], keys=keys)
    with (
        Running(place),
        anthropic.Anthropic(base_url=f"http://127.0.0.1:{place.port}", api_key="sk-plain", max_retries=0) as client,
    ):
        yield SimpleNamespace(client=client, warm=warm, endless=endless, port=place.port)


def test_tools_and_their_results_reach_the_engine_as_openais(scripted):
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}
    messages = [*HI, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    scripted.client.messages.create(model="warm", max_tokens=9, messages=messages, tools=[TOOL])
    sent = scripted.warm.last()["json"]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert sent["tools"][0]["function"]["name"] == "weather"


def test_d7_claude_codes_chores_are_recognised_and_its_session_known(scripted):
    scripted.client.messages.create(
        model="warm", max_tokens=512, messages=HI, metadata={"user_id": "user_1_account_2_session_abc"},
        system="Analyze if this message indicates a new conversation topic. Format your response as a JSON object",
    )  # fmt: skip
    assert scripted.warm.last()["json"]["metadata"] == {"user_id": "user_1_account_2_session_abc"}


def test_f2_keys_say_who_may_use_this_api(scripted):
    url = f"http://127.0.0.1:{scripted.port}"
    with anthropic.Anthropic(base_url=url, api_key="sk-openai", max_retries=0) as other:
        with pytest.raises(anthropic.PermissionDeniedError, match="anthropic"):
            other.messages.create(model="warm", max_tokens=2, messages=HI)
        with pytest.raises(anthropic.PermissionDeniedError, match="anthropic"):
            other.messages.count_tokens(model="warm", messages=HI)
    stranger = anthropic.Anthropic(base_url=url, api_key="sk-wrong", max_retries=0)
    with stranger, pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="warm", max_tokens=2, messages=HI)


async def test_a8_a_client_that_leaves_stops_the_engine(scripted):
    body = {"model": "endless", "max_tokens": 9, "stream": True, "messages": HI}
    async with Api(scripted.port, {"x-api-key": "sk-plain"}).open("POST", "/v1/messages", body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        await answer.until("text_delta")
    assert await scripted.endless.until("left")


def test_a9_an_engine_that_dies_is_an_error_event(scripted):
    stream = scripted.client.messages.create(model="dying", max_tokens=9, messages=HI, stream=True)
    with pytest.raises(anthropic.APIStatusError) as error:
        list(stream)
    assert error.value.body["type"] == "error"
    stream.close()
