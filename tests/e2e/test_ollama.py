"""The official `ollama` package against the running program with a real llama.cpp."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import ollama
import pytest

from roundhouse.api.auth import hash_key
from tests.support.gguf_files import SENTENCE, write_tiny_chat, write_tiny_embedding
from tests.support.house import Place, Running, Scripted
from tests.support.real_engine import real_build
from tests.support.wire import Api

pytestmark = pytest.mark.real
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def house(shared_place):
    place, build = shared_place, real_build()
    write_tiny_chat(place.folder / "alpha.gguf", "alpha")
    write_tiny_embedding(place.folder / "vectors.gguf")
    (place.folder / "broken.gguf").write_bytes(b"no model")
    small = {"context": 1024, "slots": 1, "args": ["--threads", 1], "memory": "300MiB"}
    names = ("alpha", "vectors", "broken")
    models = {name: {"path": str(place.folder / f"{name}.gguf"), **small} for name in names}
    binary = {"llamacpp": {"binary": build.argv[0]}} if len(build.argv) == 1 else {}
    place.write(models, engines=binary)
    with Running(place) as running:
        client = ollama.Client(f"http://127.0.0.1:{place.port}")
        yield SimpleNamespace(client=client, api=running.api, place=place)
        client._client.close()


def test_chat_in_one_piece(house):
    answer = house.client.chat("alpha:latest", HI)
    assert answer.message.content.strip() == SENTENCE
    assert (answer.model, answer.done, answer.done_reason) == ("alpha", True, "stop")
    assert answer.eval_count > 10
    assert answer.eval_duration > 0
    assert answer.total_duration >= answer.load_duration


async def test_chat_as_a_stream_while_the_model_loads(house):
    house.client.generate("alpha", keep_alive=0)
    await house.api.until("alpha", "unloaded")
    parts = list(house.client.chat("alpha", HI, stream=True))
    assert "".join(part.message.content for part in parts).strip() == SENTENCE
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].load_duration > 0


def test_generate_with_a_limit(house):
    answer = house.client.generate("alpha", "hi", options={"num_predict": 3, "temperature": 0})
    assert (answer.eval_count, answer.done_reason) == (3, "length")
    assert house.client.generate("alpha", "I am", raw=True, options={"num_predict": 2}).response


def test_embeddings(house):
    found = house.client.embed("vectors", ["cat", "dog"])
    assert len(found.embeddings) == 2
    assert list(house.client.embeddings("vectors", "cat").embedding) == pytest.approx(
        list(found.embeddings[0]), rel=1e-3
    )


async def test_load_ps_and_unload_by_empty_requests(house):
    assert house.client.generate("alpha").done_reason == "load"
    (running,) = [model for model in house.client.ps().models if model.model == "alpha"]
    assert running.size > 0
    assert running.expires_at.year > 2100
    assert house.client.chat("alpha", keep_alive=0).done_reason == "unload"
    await house.api.until("alpha", "unloaded")


async def test_keep_alive_zero_unloads_after_the_answer(house):
    house.client.chat("alpha", HI, keep_alive=0)
    await house.api.until("alpha", "unloaded")


def test_tags_and_show(house):
    listed = {model.model: model for model in house.client.list().models}
    assert set(listed) == {"alpha", "vectors", "broken"}
    assert listed["alpha"].details.format == "gguf"
    assert listed["alpha"].size > 1_000_000
    shown = house.client.show("alpha:latest")
    assert shown.modelinfo["general.architecture"] == "llama"
    assert "completion" in shown.capabilities
    assert house.client.show("vectors").capabilities == ["embedding"]


async def test_version(house):
    assert (await house.api.get("/api/version")).json()["version"].count(".") == 2


@pytest.mark.parametrize("ask", ["chat", "generate", "show", "embed"])
def test_an_unknown_model_is_a_404_in_ollamas_shape(house, ask):
    with pytest.raises(ollama.ResponseError) as error:
        getattr(house.client, ask)("alpa", **({"messages": HI} if ask == "chat" else {}))
    assert error.value.status_code == 404
    assert "alpha" in error.value.error


def test_a_failed_load_is_told_in_words_and_with_its_status(house):
    with pytest.raises(ollama.ResponseError) as error:
        house.client.chat("broken", HI)
    assert error.value.status_code == 503
    assert "GGUF" in error.value.error


@pytest.mark.parametrize("ask", [lambda c: c.pull("x"), lambda c: c.push("x"), lambda c: c.delete("x"), lambda c: c.copy("a", "b"), lambda c: c.create("x", from_="y")])  # fmt: skip
def test_what_is_not_done_here_is_refused_in_words(house, ask):
    with pytest.raises(ollama.ResponseError, match="models_dir"):
        ask(house.client)


async def test_an_image_for_a_model_without_eyes_is_the_engines_error(house):
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    with pytest.raises(ollama.ResponseError) as error:
        house.client.chat("alpha", [{"role": "user", "content": "what?", "images": [picture]}])
    assert error.value.status_code >= 400
    assert "image" in error.value.error


async def test_f2_keys_say_who_may_use_this_api_and_unload():
    place = Place()
    keys = [
        {"name": "plain", "hash": hash_key("sk-plain"), "apis": ["ollama"]},
        {"name": "openai", "hash": hash_key("sk-openai"), "apis": ["openai"]},
    ]
    place.write([Scripted(place.folder, "warm", preload=True)], keys=keys)
    with Running(place):
        plain, other = (Api(place.port, {"authorization": f"Bearer sk-{name}"}) for name in ("plain", "openai"))
        chat = {"model": "warm", "messages": HI, "stream": False}
        assert (await plain.post("/api/chat", chat)).status == 200
        for path in ("/api/chat", "/api/show"):
            refused = await other.post(path, chat)
            assert refused.status == 403
            assert "ollama" in refused.json()["error"]
        assert (await other.get("/api/tags")).status == 403
        assert (await Api(place.port).post("/api/chat", chat)).status == 401
        unload = await plain.post("/api/chat", {"model": "warm", "messages": [], "keep_alive": 0})
        assert unload.status == 403
        await plain.post("/api/chat", chat | {"keep_alive": 0})
        assert (await plain.post("/v1/chat/completions", chat)).status == 403
        assert (await Api(place.port).health())["status"] == "healthy"
