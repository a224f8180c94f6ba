"""`/openapi.json` is true: schemathesis asks every operation in many ways, and every answer must be as described."""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from roundhouse.api.auth import hash_key
from tests.support.house import Running, Scripted

EXAMPLES = int(os.environ.get("ROUNDHOUSE_OPENAPI", "8"))
ENDLESS = r"/api/v1/events|/models/sse|/api/v1/models/\{model\}/log"
"""Feeds, which have no end."""
CHECKS = [content_type_conformance, response_schema_conformance]
KEY = {"authorization": "Bearer sk-me"}


@pytest.fixture(scope="module")
def operations(shared_place):
    """Of a house with a key, as one that schemathesis makes would close it."""
    place = shared_place
    kinds = {"chat": "chat", "embed": "embedding", "rank": "rerank"}
    place.write(
        [Scripted(place.folder, name, kind=kind) for name, kind in kinds.items()],
        keys=[{"name": "me", "hash": hash_key("sk-me"), "admin": True}],
        scheduling={"queue": {"timeout": "2s"}},
        captures={"store": "all"},
        reload={"watch": False},
    )
    with Running(place) as running:
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{place.port}/openapi.json")
        found = [one.ok() for one in schema.exclude(path_regex=ENDLESS).get_all_operations()]
        assert len(found) > 60
        yield found
        assert "Traceback" not in running.log()


def test_every_answer_is_as_described(operations):
    all_of(operations, answers_as_described)


def test_spoilt_bodies_and_queries_are_refused_as_described(operations):
    spoilable = [one for one in operations if one.body or list(one.query)]  # a path takes any text
    assert len(spoilable) > 30
    all_of(spoilable, refuses_as_described)


def test_who_has_no_key_is_refused_whatever_is_asked(operations):
    all_of([one for one in operations if one.path not in {"/health", "/api/version"}], refuses_strangers)


def all_of(operations, check) -> None:
    """Tries all of them, and tells together what is wrong."""
    wrong: list[str] = []
    for operation in operations:
        try:
            check(operation)
        except (Exception, BaseExceptionGroup) as error:  # whatever a check says
            wrong.append(f"{operation.label}: {getattr(error, 'exceptions', error)}")
    assert not wrong, "\n\n".join(wrong)


def tries(count: int):
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def answers_as_described(operation) -> None:
    @given(operation.as_strategy(), booleans())
    @tries(EXAMPLES)
    def check(case, known) -> None:
        model = next((name for name in ("embed", "rank") if name in case.path), "chat")
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = model  # hardly any would get further else
        if known and "model" in (case.path_parameters or {}):
            case.path_parameters["model"] = model
        held(operation, case, KEY)

    check()


def refuses_as_described(operation) -> None:
    @given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    @tries(EXAMPLES)
    def check(case) -> None:
        held(operation, case, KEY)

    check()


def refuses_strangers(operation) -> None:
    @given(operation.as_strategy())
    @tries(1)
    def check(case) -> None:
        assert held(operation, case, {"authorization": "Bearer sk-other"}).status_code == 401

    check()


def held(operation, case, headers):
    """The answer, which is one that the description has.

    `default` does not count: it is for an engine's own errors, of which ours has none that we don't know, and for our mistakes.
    """
    response = case.call(headers=headers, timeout=60)
    told = operation.definition.raw["responses"]
    assert str(response.status_code) in told, (response.status_code, response.content[:300], case.body)
    case.validate_response(response, checks=CHECKS)
    return response
