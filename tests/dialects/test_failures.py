import json

import pytest

from roundhouse.dialects import failures, sse
from roundhouse.errors import LoadFailed, UnknownModel
from tests.dialects.streams import http


def _normalised(status, answer):
    fields = json.loads(failures.normalise_error(status, answer))["error"]
    assert {"message", "type", "param", "code"} <= set(fields)
    assert isinstance(fields["message"], str)
    assert fields["message"]
    assert isinstance(fields["code"], str)
    return fields


def test_a4_our_errors_in_openais_shape():
    error = UnknownModel("No model 'x'.", param="model")
    expected = {
        "error": {
            "message": "No model 'x'.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    assert json.loads(failures.error_body(error)) == expected
    assert json.loads(sse.payload(failures.error_event(error))) == expected


@pytest.mark.parametrize(
    ("name", "status", "kind", "code", "says"),
    [
        ("llamacpp/chat_badjson.http", 500, "server_error", "engine_error", "parse error"),
        ("llamacpp/chat_image.http", 500, "server_error", "engine_error", "image input is not supported"),
        ("llamacpp/chat_nomessages.http", 400, "invalid_request_error", "bad_request", "'messages' is required"),
        ("llamacpp/chat_too_long.http", 400, "exceed_context_size_error", "context_length_exceeded", "9024 tokens"),
        ("llamacpp/rerank_on_chat.http", 501, "not_supported_error", "not_supported", "--reranking"),
        ("llamacpp/unknown_post.http", 404, "not_found_error", "not_found", "File Not Found"),
        ("sglang/err_embeddings.http", 400, "invalid_request_error", "bad_request", "--is-embedding"),
        ("sglang/err_toolong.http", 400, "invalid_request_error", "bad_request", "max_completion_tokens"),
        ("vllm/err_badmodel.http", 404, "invalid_request_error", "not_found", "does not exist"),
        ("vllm/err_embeddings.http", 404, "invalid_request_error", "not_found", "Not Found"),
        ("vllm/err_toolong.http", 400, "invalid_request_error", "bad_request", "max_tokens=999999"),
        ("tabbyapi/err_aborted.http", 503, "server_error", "engine_unavailable", "aborted"),
        ("tabbyapi/err_embeddings.http", 503, "server_error", "engine_unavailable", "No embedding models"),
        (
            "tabbyapi/err_validation.http",
            422,
            "invalid_request_error",
            "bad_request",
            "body.max_seq_len: Input should be",
        ),
        ("tabbyapi/err_plain.http", 500, "server_error", "engine_error", "Internal Server Error"),
    ],
)
def test_a4_every_engines_own_shape_is_normalised(name, status, kind, code, says):
    told, answer = http(name)
    assert told == status
    fields = _normalised(status, answer)
    assert (fields["type"], fields["code"]) == (kind, code)
    assert says in fields["message"]
    error = failures.upstream_error(status, answer)
    assert (error.status, error.code, error.message) == (status, code, fields["message"])


def test_a4_what_the_engine_tells_besides_is_kept():
    fields = _normalised(*http("llamacpp/chat_too_long.http"))
    assert (fields["n_prompt_tokens"], fields["n_ctx"]) == (9024, 2048)
    assert _normalised(*http("vllm/err_toolong.http"))["param"] == "max_tokens"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "The engine answered with status 418 and no explanation."),
        (b"null", "The engine answered with status 418 and no explanation."),
        (b'{"error":{}}', "The engine answered with status 418 and no explanation."),
        (b"<html><h1>Bad\nGateway</h1></html>", "Bad Gateway"),
        (b'{"error":"plain words"}', "plain words"),
        (b'{"message":"m","code":"x"}', "m"),
        (b'{"detail":["odd"]}', "odd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_a4_odd_bodies_still_explain(answer, message):
    assert _normalised(418, answer)["message"] == message


def test_long_texts_are_cut():
    assert len(_normalised(500, b"x" * 100_000)["message"]) == 2000


@pytest.mark.parametrize(
    ("chunk", "status", "message"),
    [
        ({"error": {"message": "m", "code": 400, "type": "invalid_request_error"}}, 400, "m"),
        ({"error": {"message": "Aborted.", "trace": "Traceback"}}, 502, "Aborted."),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, 400, "m"),
        ({"error": "words", "code": 7}, 502, "words"),
    ],
)
def test_a4_error_events_of_a_stream(chunk, status, message):
    assert failures.is_error(chunk)
    error, event = failures.chunk_error(chunk)
    assert (error.status, error.message) == (status, message)
    fields = json.loads(sse.payload(event))["error"]
    assert fields["message"] == message
    assert "trace" not in fields


def test_ordinary_chunks_are_no_errors():
    assert not failures.is_error({"object": "chat.completion.chunk", "error": None})


def test_status_of_an_error_of_ours_stays_with_its_class():
    failures.upstream_error(400, b"")
    assert LoadFailed("x").status == 503
