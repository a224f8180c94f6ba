"""The Responses API through the official `openai` package, with a real llama.cpp."""

from __future__ import annotations

from types import SimpleNamespace

import openai
import pytest

from roundhouse.api.auth import hash_key
from tests.support.gguf_files import SENTENCE, write_tiny_chat
from tests.support.house import Running
from tests.support.real_engine import real_build
from tests.support.wire import Api

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def house(shared_place):
    place, build = shared_place, real_build()
    write_tiny_chat(place.folder / "alpha.gguf", "alpha")
    (place.folder / "broken.gguf").write_bytes(b"no model")
    small = {"context": 2048, "slots": 1, "args": ["--threads", 1], "memory": "300MiB"}
    models = {name: {"path": str(place.folder / f"{name}.gguf"), **small} for name in ("alpha", "broken")}
    binary = {"llamacpp": {"binary": build.argv[0]}} if len(build.argv) == 1 else {}
    keys = [{"name": name, "hash": hash_key(f"sk-{name}"), "admin": name == "ann"} for name in ("ann", "bob")]
    place.write(models, engines=binary, keys=keys)
    with Running(place) as running:
        url = f"http://127.0.0.1:{place.port}/v1"
        with (
            openai.OpenAI(base_url=url, api_key="sk-ann", max_retries=0, timeout=60) as ann,
            openai.OpenAI(base_url=url, api_key="sk-bob", max_retries=0, timeout=60) as bob,
        ):
            api = Api(place.port, {"authorization": "Bearer sk-ann"})
            yield SimpleNamespace(client=ann, bob=bob, api=api, running=running)


def test_in_one_piece(house):
    response = house.client.responses.create(model="alpha", input="hi", instructions="Be yourself.")
    assert response.output_text.strip() == SENTENCE
    assert response.status == "completed"
    assert response.usage.output_tokens > 10


async def test_as_a_stream_while_the_model_loads(house):
    await house.api.post("/api/v1/models/alpha/unload")
    with house.client.responses.stream(model="alpha", input="hi") as stream:
        events = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text.strip() == SENTENCE
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"


def test_a_conversation_goes_on_also_after_a_restart_of_roundhouse(house):
    first = house.client.responses.create(model="alpha", input="hi")
    second = house.client.responses.create(model="alpha", input="and?", previous_response_id=first.id)
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    house.running.end()
    house.running.start()
    third = house.client.responses.create(model="alpha", input="and?", previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens
    assert house.client.responses.retrieve(first.id).output_text == first.output_text


def test_a_response_is_its_keys_own(house):
    first = house.client.responses.create(model="alpha", input="hi")
    for ask in (house.bob.responses.retrieve, house.bob.responses.delete):
        with pytest.raises(openai.NotFoundError):
            ask(first.id)
    with pytest.raises(openai.NotFoundError, match="send the whole conversation"):
        house.bob.responses.create(model="alpha", input="and?", previous_response_id=first.id)


def test_what_is_forgotten_or_was_not_to_be_kept_is_gone(house):
    first = house.client.responses.create(model="alpha", input="hi")
    house.client.responses.delete(first.id)
    unkept = house.client.responses.create(model="alpha", input="hi", store=False)
    for number in (first.id, unkept.id):
        with pytest.raises(openai.NotFoundError):
            house.client.responses.retrieve(number)


def test_a_limit(house):
    response = house.client.responses.create(model="alpha", input="hi", max_output_tokens=3)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_errors_have_their_status(house):
    with pytest.raises(openai.NotFoundError, match="did you mean 'alpha'"):
        house.client.responses.create(model="alpa", input="hi")
    with pytest.raises(openai.InternalServerError, match="GGUF"):
        house.client.responses.create(model="broken", input="hi")
    with pytest.raises(openai.BadRequestError, match="OpenAI's servers"):
        house.client.responses.create(model="alpha", input="hi", tools=[{"type": "code_interpreter", "container": "x"}])
