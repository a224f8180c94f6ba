"""Rules of which errors a route is said to have; that answers keep to them is tried in tests/e2e/test_openapi.py."""

from __future__ import annotations

from roundhouse import errors
from roundhouse.api.statuses import RELAYED, of
from roundhouse.errors import BadRequest, BodyTooLarge, Forbidden, NotFound, Unauthorized, UnknownModel

QUERY = {"parameters": [{"in": "query"}]}


def test_health_is_for_everybody():
    assert of("get", "/health", {}) == set()


def test_reading_the_picture_takes_a_key_and_changing_it_a_right():
    assert of("get", "/api/v1/state", {}) == {Unauthorized}
    assert of("post", "/api/v1/models/{model}/pin", {"parameters": [{"in": "path"}]}) == {
        Unauthorized,
        Forbidden,
        UnknownModel,
    }


def test_what_is_named_may_be_unknown_and_what_is_sent_may_be_wrong():
    assert NotFound in of("get", "/api/v1/requests/{id}", {})
    assert of("post", "/x", {"requestBody": {}}) >= {BadRequest, BodyTooLarge}
    assert of("get", "/x", QUERY) == {Unauthorized, Forbidden, BadRequest}


def test_every_error_that_a_client_can_get_is_said_somewhere():
    """An error that is new must be put to the routes that have it."""
    known = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.RouterError)}
    elsewhere = {errors.NotFound, errors.Conflict, errors.NotKept, errors.NotLoaded}
    assert known - RELAYED - elsewhere == {
        errors.RouterError,
        errors.Unforeseen,  # `default`
        errors.ConfigError,  # ends a command
        errors.MethodNotAllowed,  # of no operation that there is
    }
    routes = [("post", "/api/v1/keys/{name}/rotate"), ("get", "/props")]
    assert elsewhere <= {error for method, path in routes for error in of(method, path, {})}
