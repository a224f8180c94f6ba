"""Paths that are passed to engines: names, looks, operators' paths (spec A5, A7, F2)."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.api import engine_paths as paths
from roundhouse.config.models import ModelConfig
from roundhouse.core.catalog import Catalog
from roundhouse.errors import BadRequest, UnknownModel

NAMES = ("org", "org/model", "org/model/long", "größe/模型", "100%", "a b", "best")


def model(name: str, **fields: object) -> ModelConfig:
    source = {} if "any_of" in fields else {"command": "run", "engine": "openai", "launcher": "process"}
    return ModelConfig.model_validate({"id": name, **source, **fields})


CATALOG = Catalog(
    {name: model(name) for name in NAMES[:-1]} | {"best": model("best", any_of=("org",), aliases={"top/one": {}})}
)


@pytest.mark.parametrize(
    ("raw", "name", "path", "rest"),
    [
        (b"/upstream/org/model/long/v1/chat", "org/model/long", "/v1/chat", b"/v1/chat"),
        (b"/upstream/org/model/longer", "org/model", "/longer", b"/longer"),
        (b"/upstream/org%2Fmodel/a%20b", "org/model", "/a b", b"/a%20b"),
        (b"/upstream/org%2fmodel%2Fprops", "org/model", "/props", b"/props"),
        (b"/%75pstream/%6Frg/x", "org", "/x", b"/x"),
        (b"/upstream/gr%C3%B6%C3%9Fe/%E6%A8%A1%E5%9E%8B/x%FF", "größe/模型", "/x\udcff", b"/x%FF"),
        (b"/upstream/100%25/x%2525", "100%", "/x%25", b"/x%2525"),
        (b"/upstream/a%20b", "a b", "", b""),
        (b"/upstream/top/one/", "top/one", "/", b"/"),
        (b"/upstream/best//x", "best", "//x", b"//x"),
    ],
)
def test_a5_a_path_is_split_behind_the_longest_name_and_stays_encoded(raw, name, path, rest):
    assert paths.place_of(raw, CATALOG) == (name, path, rest)


@given(st.sampled_from([*NAMES, "top/one"]), st.text(max_size=20), st.sampled_from(["", "/"]))
def test_a5_any_name_and_any_path_are_found_again(name, path, safe):
    path = "/~" + path.replace("..", "").replace("/", "")
    raw = b"/upstream/" + quote(name, safe=safe).encode() + quote(path, errors="replace").encode()
    found = paths.place_of(raw, CATALOG)
    assert found.name == name
    assert unquote_to_bytes(found.raw) == found.path.encode("utf-8", "surrogateescape")
    assert raw.endswith(found.raw)


@given(st.binary(max_size=30).filter(lambda raw: b".." not in unquote_to_bytes(unquote_to_bytes(raw))))
def test_a5_no_bytes_break_it(raw):
    found = paths.place_of(b"/upstream/org/" + raw, CATALOG)
    assert (b"/upstream/org/" + raw).endswith(found.raw)


def test_a4_a_name_that_nobody_has():
    with pytest.raises(UnknownModel, match=r"'orgg' does not exist; did you mean 'org'\? The path is /upstream/"):
        paths.place_of(b"/upstream/orgg/props", CATALOG)


@pytest.mark.parametrize("rest", [b"/../x", b"/a/%2e%2e/b", b"/..", b"/a/..%2fb", b"/%252e%252e/b", b"/..%5Cb"])
def test_f2_nothing_climbs_out_of_an_engines_base(rest):
    with pytest.raises(BadRequest):
        paths.place_of(b"/upstream/org" + rest, CATALOG)


def test_a2_the_model_of_a_get_is_in_its_query():
    assert paths.queried(b"/props", b"a=1&model=org%2Fmodel") == ("org/model", "/props", b"/props")
    with pytest.raises(BadRequest, match=r"/slots\?model="):
        paths.queried(b"/slots", b"model=&x=1")


def test_our_own_parameters_stay_here_and_others_keep_their_bytes():
    assert paths.without(b"a=%2F&autoload=1&b&model=x&c=+", b"autoload", b"model") == b"a=%2F&b&c=+"
    assert paths.without(b"", b"autoload") == b""


@pytest.mark.parametrize(
    ("method", "path", "look"),
    [
        ("GET", "", True),
        ("GET", "/", True),
        ("GET", "/props", True),
        ("GET", "/_app/immutable/Bundle.JS", True),
        ("GET", "/v1/models", True),
        ("HEAD", "/anything", True),
        ("OPTIONS", "/v1/chat/completions", True),
        ("POST", "/props", False),
        ("POST", "/x.js", False),
        ("GET", "/queue/events", False),
        ("CONNECT", "/", False),
    ],
)
def test_a7_what_only_looks(method, path, look):
    assert paths.is_look(method, path) is look


@pytest.mark.parametrize(
    ("header", "query", "wanted"),
    [
        (b"", b"", False),
        (b"", b"autoload=1", True),
        (b"", b"autoload=true&x=1", True),
        (b"1", b"", True),
        (b"1", b"autoload=false", False),
        (b"no", b"", False),
    ],
)
def test_a7_a_look_may_ask_for_the_load(header, query, wanted):
    assert paths.wants_load({b"x-roundhouse-autoload": header}, query) is wanted


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/slots"),
        ("POST", "/slots/0"),
        ("POST", "/lora-adapters"),
        ("POST", "/props"),
        ("GET", "//slots"),
        ("GET", "/./slots"),
        ("GET", "/v1/.//model/load"),
        ("POST", "/Slots/1"),
        ("GET", "/%73lots"),
        ("GET", "/flush_cache"),
        ("GET", "/server_info"),
        ("POST", "/release_memory_occupation"),
        ("POST", "/update_weights_from_disk"),
        ("POST", "/v1/model/unload"),
        ("GET", "/v1/model/list"),
        ("POST", "/sleep"),
        ("POST", "/collective_rpc"),
        ("GET", "/cors-proxy"),
        ("POST", "/tools"),
        ("GET", "/v1/stream/somebodys"),
        ("DELETE", "/api/delete"),
        ("POST", "/v1/load_lora_adapter"),
        ("CONNECT", "/tools"),
    ],
)
def test_f2_what_is_for_operators(method, path):
    assert paths.is_operators(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/props"),
        ("GET", "/lora-adapters"),
        ("GET", "/tools"),
        ("GET", "/v1/model"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/completion"),
        ("POST", "/generate"),
        ("POST", "/api/v1/generate"),
        ("POST", "/v1/responses"),
        ("GET", "/health"),
        ("CONNECT", "/ws"),
    ],
)
def test_f2_what_everybody_may(method, path):
    assert not paths.is_operators(method, path)


def test_what_takes_a_slot():
    assert paths.is_computed("POST", "/completion")
    assert paths.is_computed("CONNECT", "/ws")
    assert not paths.is_computed("POST", "/tokenize")
    assert not paths.is_computed("GET", "/v1/chat/completions")
