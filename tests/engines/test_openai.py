from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.engines import ENGINES
from roundhouse.engines.openai import OpenAICompatible, endpoint_of, path_for
from roundhouse.errors import ConfigError
from roundhouse.ports import Build, Endpoint, Served
from tests.engines.models import model


def command(text: str, **settings: Any):
    settings = {"path": None, "engine": "openai", "command": text, **settings}
    return OpenAICompatible().command(model(**settings), None, Build(()), 4711)


def test_it_is_known_by_its_name():
    assert ENGINES["openai"].name == "openai"
    assert not ENGINES["openai"].streams_to_abort


def test_c2_a_command_is_split_as_by_a_shell_and_gets_port_and_id():
    made = command("/opt/my-engine --port ${PORT} --name '${ID} served' $HOME;", args=("--more", "${PORT}"))
    assert made.argv == (
        "/opt/my-engine", "--port", "4711", "--name", "m served", "$HOME;", "--more", "4711",
    )  # fmt: skip


def test_c2_an_id_with_blanks_stays_one_word():
    assert command("run ${ID}", id="a b; rm -rf").argv == ("run", "a b; rm -rf")


def test_c2_the_environment_is_expanded_too():
    assert command("x", env={"LISTEN": "127.0.0.1:${PORT}"}).env == {"LISTEN": "127.0.0.1:4711"}


def test_a_url_has_no_command():
    remote = model(path=None, url="https://example.org/v1", engine="openai", launcher="attached")
    assert OpenAICompatible().command(remote, None, Build(()), 1).argv == ()


@pytest.mark.parametrize(
    ("url", "path", "asked"),
    [
        ("https://example.org/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("https://example.org/v1/", "/v1/chat/completions", "/v1/chat/completions"),
        ("https://example.org", "/v1/chat/completions", "/v1/chat/completions"),
        ("https://example.org/", "/v1/models", "/v1/models"),
        ("https://example.org/api/v1", "/v1/models", "/api/v1/models"),
        ("https://example.org/api/paas/v4", "/v1/chat/completions", "/api/paas/v4/chat/completions"),
        ("https://example.org/v1", "/tokenize", "/v1/tokenize"),
        ("https://example.org", "/tokenize", "/tokenize"),
    ],
)
def test_base_urls_and_our_paths_make_the_path_that_is_asked(url, path, asked):
    endpoint = endpoint_of(url)
    assert endpoint.base + path_for(endpoint, path) == asked


@given(
    st.sampled_from(["", "/", "/v1", "/api/v1", "/x/y"]), st.sampled_from(["chat/completions", "models", "embeddings"])
)
def test_v1_is_never_doubled(base: str, name: str):
    endpoint = endpoint_of("http://h" + base)
    assert (endpoint.base + path_for(endpoint, f"/v1/{name}")).count("/v1") <= 1


def test_an_engine_of_ours_has_no_base_and_its_paths_stay():
    assert path_for(Endpoint("127.0.0.1", 1), "/v1/chat/completions") == "/v1/chat/completions"


def test_f2_the_engines_key_goes_into_our_headers():
    endpoint = endpoint_of("https://example.org:8443/v1", "secret")
    assert endpoint == Endpoint("example.org", 8443, True, "/v1", ((b"authorization", b"Bearer secret"),))


def test_ports_by_scheme():
    assert endpoint_of("http://[::1]").port == 80
    assert endpoint_of("https://x").port == 443
    assert endpoint_of("http://[::1]:8002").host == "::1"


@pytest.mark.parametrize(
    "url", ["", "example.org", "ftp://x/v1", "http://", "http://x:99999", "http://[::1", "http://x/v1?k=1"]
)
def test_what_is_no_base_url_is_refused(url: str):
    with pytest.raises(ConfigError, match=r"URL"):
        endpoint_of(url)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"command": "x"}, "/v1/models"),
        ({"command": "x", "health": "/health"}, "/health"),
        ({"url": "https://example.org/v1"}, "/models"),
        ({"url": "https://example.org"}, "/v1/models"),
        ({"url": "https://example.org/v1", "health": "/ping"}, "/ping"),
    ],
)
def test_c4_which_path_is_polled(settings, path):
    assert OpenAICompatible().ready_paths(model(path=None, engine="openai", **settings)) == (path,)


@pytest.mark.parametrize(
    ("status", "ready"), [(200, True), (204, True), (401, True), (404, True), (429, False), (500, False), (503, False)]
)
def test_c4_it_is_ready_when_it_answers(status, ready):
    assert OpenAICompatible().is_ready(status, b"") is ready


def test_little_is_known_of_it():
    engine = OpenAICompatible()
    assert engine.served({}) == Served(slots=64)
    assert engine.progress("loading 50%") is None
    assert engine.footprint(model(), None) is None


def test_c2_its_last_words_are_the_reason():
    assert (
        OpenAICompatible().failure(["Traceback", "ValueError: no such model  ", "", "  "])
        == "ValueError: no such model"
    )
    assert OpenAICompatible().failure([]) == ""
