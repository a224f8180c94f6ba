"""Open WebUI's list of models: what it shows of each, the loaded dot, the eject button (llama.cpp's router API)."""

from __future__ import annotations

from tests.openwebui.conftest import BROKEN, CHORES, GEMMA, SMOL, VECTORS, until

DOT = ".bg-green-500"


def test_a1_all_models_are_listed_and_the_loaded_one_has_a_dot(chat, box):
    box.ask("POST", f"/api/v1/models/{SMOL}/load")
    talk = chat_with_list(chat, SMOL)
    names = [row.get_attribute("data-value") for row in talk.page.locator("[data-value]").all()]
    assert names == [SMOL, GEMMA, VECTORS, CHORES, BROKEN]
    assert "SmolLM2 135M" in talk.row(SMOL).inner_text()
    assert "A very small chat model" in talk.row(SMOL).inner_text()
    assert [talk.row(name).locator(DOT).count() for name in names] == [1, 0, 0, 0, 0]


def test_a1_the_list_comes_at_once_while_a_model_loads(chat, box, webui):
    box.gate.touch()
    talk = chat(SMOL)
    talk.say("Hello!")
    talk.sees("Loading model")
    listed = webui.ask("GET", "/api/models?refresh=true")["data"]
    assert {SMOL, GEMMA} <= {model["id"] for model in listed}
    box.gate.unlink()
    talk.finished()


def test_the_eject_button_unloads(chat, box, webui):
    webui.connect(box.url, provider="llama.cpp")
    box.ask("POST", f"/api/v1/models/{SMOL}/load")
    talk = chat_with_list(chat, SMOL)
    assert talk.row(SMOL).locator(DOT).count() == 1
    talk.row(SMOL).hover()
    eject = talk.row(SMOL).get_by_label("Eject model")
    eject.hover()
    talk.toasts().first.wait_for(state="hidden")
    talk.picture("eject")
    eject.click()
    talk.toasts().get_by_text("Model unloaded successfully").wait_for()
    assert box.model(SMOL)["state"] == "unloaded"
    assert until(lambda: talk.row(SMOL).locator(DOT).count() == 0)


def test_a_load_asked_for_by_its_administrator(chat, box, webui):
    webui.connect(box.url, provider="llama.cpp")
    chat(SMOL)
    webui.ask("POST", "/openai/models/0/load", {"model": GEMMA})
    assert box.model(GEMMA)["state"] == "ready"


def test_documents_are_embedded_beside_the_chat(chat, box, webui):
    box.ask("POST", f"/api/v1/models/{SMOL}/load")
    document = {"name": "trains", "content": "Trains run on rails.", "collection_name": "trains"}
    assert webui.ask("POST", "/api/v1/retrieval/process/text", document)["status"]
    asked = [request for request in box.wire.asked if request.path == "/v1/embeddings"]
    assert {request.json["model"] for request in asked} == {VECTORS}
    assert box.loads() == [SMOL, VECTORS]
    assert box.model(SMOL)["state"] == "ready"


def test_an_ollama_connection_lists_chats_and_ejects(chat, box, webui):
    with webui.by_ollama(f"http://127.0.0.1:{box.wire.port}"):
        talk = chat(SMOL)
        assert talk.ask("Write one sentence about trains.")
        assert {"/api/tags", "/api/chat"} <= {request.path for request in box.wire.asked}
        assert [(r.model, r.status) for r in box.past(1)] == [(SMOL, 200)]
        talk.page.reload()
        talk.open_models()
        talk.row(SMOL).hover()
        talk.row(SMOL).get_by_label("Eject model").click()
        assert until(lambda: box.model(SMOL)["state"] == "unloaded")


def chat_with_list(chat, model):
    talk = chat(model)
    talk.open_models()
    return talk
