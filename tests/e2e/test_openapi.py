"""`/openapi.json` is true: schemathesis asks every operation in many ways, and every answer must be as described."""

from __future__ import annotations

import os

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.house import Running, Scripted

EXAMPLES = int(os.environ.get("ROUNDHOUSE_OPENAPI", "8"))
ENDLESS = r"/api/v1/events|/models/sse|/api/v1/models/\{model\}/log"
"""Feeds, which have no end."""


CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


def test_every_answer_is_as_described(place):
    models = [Scripted(place.folder, "chat"), Scripted(place.folder, "embed", kind="embedding")]
    place.write(models, scheduling={"queue": {"timeout": "2s"}}, captures={"store": "all"}, reload={"watch": False})
    wrong: list[str] = []
    with Running(place) as running:
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{place.port}/openapi.json")
        operations = [found.ok() for found in schema.exclude(path_regex=ENDLESS).get_all_operations()]
        for operation in operations:
            try:
                try_out(operation)
            except (Exception, BaseExceptionGroup) as error:  # whatever a check says; all operations are told together
                wrong.append(f"{operation.label}: {getattr(error, 'exceptions', error)}")
        assert "Traceback" not in running.log()
    assert len(operations) > 40
    assert not wrong, "\n\n".join(wrong)


def try_out(operation) -> None:
    """Asks one operation in several ways."""

    @given(operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def every_answer(case) -> None:
        if isinstance(case.body, dict) and case.body.get("model"):
            case.body["model"] = "embed" if "embed" in case.path else "chat"  # hardly any would get further else
        response = case.call(timeout=60)
        assert response.status_code != 500  # others are said in our words: an engine's fault, no room, not built
        case.validate_response(response, checks=CHECKS)

    every_answer()
