"""Speech, transcriptions and images with the official client (spec A2), over a double that answers what it was sent."""

from __future__ import annotations

import base64
import json
import sys
from types import SimpleNamespace

import openai
import pytest

from roundhouse.api.auth import hash_key
from tests.support import media_engine
from tests.support.house import Place, Running, Scripted
from tests.support.wire import Api

WAVE = bytes(range(256)) * 2000
"""Half a megabyte of something."""


@pytest.fixture(scope="module")
def house():
    place = Place()
    record = place.folder / "media.jsonl"
    command = f"{sys.executable} -S {media_engine.__file__} --port ${{PORT}} --record {record}"
    common = {"engine": "openai", "command": command, "memory": "600MiB", "health": "/health"}
    voice = common | {"served_name": "kokoro-82m", "aliases": ["tts-1"]}
    keys = [
        {"name": "me", "hash": hash_key("sk-me"), "admin": True},
        {"name": "kid", "hash": hash_key("sk-kid"), "models": ["painter"], "rate": {"requests": "3/h"}},
    ]
    models = {"org/voice": voice, "painter": common, "chat": Scripted(place.folder, "chat").config | {"memory": "1MiB"}}
    place.write(models, keys=keys, limits={"body": "1MiB"})
    with Running(place) as running:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{place.port}/v1", api_key="sk-me", max_retries=0, timeout=60)
        yield SimpleNamespace(client=client, port=place.port, record=record, running=running)
    place.remove()


def last(house):
    told = json.loads(house.record.read_text().splitlines()[-1])
    return SimpleNamespace(path=told["path"], kind=told["kind"], body=base64.b64decode(told["body"]))


def as_(house, key: str) -> Api:
    return Api(house.port, {"authorization": f"Bearer sk-{key}"})


def test_a2_speech_comes_as_bytes_as_they_are_made_from_a_model_that_had_to_be_loaded(house, tmp_path):
    asked = house.client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="Hello")
    with asked as answer:
        answer.stream_to_file(tmp_path / "speech.mp3")
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.headers["x-roundhouse-model"] == "org/voice"
    assert (tmp_path / "speech.mp3").read_bytes() == b"".join(bytes([n]) * 1000 for n in range(media_engine.PIECES))
    assert json.loads(last(house).body) == {"model": "kokoro-82m", "voice": "alloy", "input": "Hello"}
    assert house.client.audio.speech.create(model="org/voice", voice="x", input="again").content[:1000] == bytes(1000)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's own word on translations
def test_a2_a_transcription_finds_its_model_in_the_form_and_nothing_else_of_it_is_changed(house):
    heard = house.client.audio.transcriptions.create(model="tts-1", file=("a.wav", WAVE), language="en")
    assert heard.text.startswith("kokoro-82m heard ")
    there = last(house)
    assert there.path == "/v1/audio/transcriptions"
    assert WAVE in there.body
    assert b'name="language"' in there.body
    assert int(heard.text.split()[2]) == len(there.body)
    assert house.client.audio.translations.create(model="org/voice", file=("a.wav", b"x")).text.startswith("kokoro")


def test_a2_images_are_made_and_edited_and_the_models_make_way_for_one_another(house):
    made = house.client.images.generate(model="painter", prompt="a train")
    assert made.data[0].b64_json == "aW1hZ2U="
    assert json.loads(last(house).body)["model"] == "painter"
    edited = house.client.images.edit(model="painter", image=[("a.png", b"A" * 9), ("b.png", b"B" * 9)], prompt="x")
    assert edited.data[0].b64_json
    assert b"A" * 9 in last(house).body
    assert b"B" * 9 in last(house).body


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/v1/audio/speech", b"{", "application/json", 400),
        ("/v1/audio/speech", b"[]", "application/json", 400),
        ("/v1/audio/speech", b'{"input": "x"}', "application/json", 400),
        ("/v1/audio/speech", b'{"model": 5}', "application/json", 400),
        ("/v1/audio/speech", b'{"model": "nobody"}', "application/json", 404),
        ("/v1/audio/speech", b'{"model": "tts-1", "input": ""}', "application/json", 400),
        ("/v1/audio/transcriptions", b"--x\r\n", "multipart/form-data; boundary=x", 400),
        ("/v1/audio/transcriptions", b"--x--\r\n", "multipart/form-data; boundary=x", 400),
        ("/v1/audio/transcriptions", b"x", "multipart/form-data", 400),
        ("/v1/images/generations", b"x" * (2 << 20), "application/json", 413),
    ],
)
async def test_a4_what_can_not_be_done_has_its_status(house, path, body, kind, status):
    reply = await as_(house, "me").ask("POST", path, body, {"content-type": kind})
    assert reply.status == status
    assert "Traceback" not in reply.body.decode()


async def test_f2_keys_and_their_limits_hold_here_too(house):
    kid = as_(house, "kid")
    assert (await Api(house.port).post("/v1/audio/speech", {"model": "tts-1", "input": "x"})).status == 401
    assert (await kid.post("/v1/audio/speech", {"model": "tts-1", "input": "x"})).status == 403
    replies = [await kid.post("/v1/images/generations", {"model": "painter", "prompt": "x"}) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert replies[0].headers["x-ratelimit-remaining-requests"] == "2"


async def test_a_path_takes_post_alone(house):
    assert (await as_(house, "me").get("/v1/audio/speech")).status in {404, 405}
