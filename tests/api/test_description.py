"""What `/openapi.json` says of relayed routes; that it is true is tried in tests/e2e/test_openapi.py."""

from __future__ import annotations

from roundhouse.api.admin import make_admin
from roundhouse.api.description import relayed
from roundhouse.api.media import PATHS as MEDIA
from roundhouse.api.routes import ROUTES
from roundhouse.dialects import anthropic, ollama, responses


def test_every_relayed_path_is_told_once():
    told = set(relayed())
    others = {*anthropic.PATHS, *ollama.PATHS, responses.PATH}
    served = {*ROUTES, *others, *MEDIA}
    assert told <= served
    assert {path for path in served if path not in told} == {p for p in served if f"/v1{p}" in served}


def test_operations_have_names_of_their_own_and_errors():
    whole = make_admin(None, "1").openapi()  # type: ignore[arg-type]  # nothing is asked
    operations = [one for path in whole["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all("default" in one["responses"] and "422" not in one["responses"] for one in operations)
    assert whole["components"]["schemas"].keys() == {"Error", "AnthropicError", "OllamaError"}


def test_streams_and_bodies_are_described():
    chat = relayed()["/v1/chat/completions"]["post"]
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    body = chat["requestBody"]["content"]["application/json"]["schema"]
    assert (body["required"], body["additionalProperties"]) == (["model", "messages"], True)
    assert "multipart/form-data" in relayed()["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]
    assert "stream" not in relayed()["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["schema"]
