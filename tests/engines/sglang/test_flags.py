from __future__ import annotations

from pathlib import Path

import pytest

from roundhouse.core.model import Kind
from roundhouse.engines import options
from roundhouse.engines.paged import Said
from roundhouse.engines.sglang import flags
from roundhouse.runtime.interpreters import options_in
from tests.engines.models import CAPTURES, embedder, llama_8b, model

KNOWN = options_in((CAPTURES.parent / "sglang" / "help-0.5.23.txt").read_text("utf-8"))
OLD = frozenset(
    {"--model-path", "--served-model-name", "--context-length", "--max-running-requests", "--max-total-tokens",
     "--mem-fraction-static", "--is-embedding", "--disable-cuda-graph", "--cuda-graph-max-bs", "--host", "--port"}
)  # fmt: skip
"""Of what 0.4.5 has."""


def words(known: frozenset[str] = KNOWN, **settings: object) -> list[str]:
    made = model(path=Path("/models/tiny"), engine="sglang", **settings)
    return list(options.chosen(flags.wanted(made, llama_8b(weights=2**34), 1, known), made.args, known))


def test_c2_all_that_is_said_to_0_5_23():
    assert words(context=8192, slots=2) == [
        "--model-path", "/models/tiny", "--served-model-name", "m", "--sleep-on-idle", "--context-length", "8192",
        "--max-running-requests", "2", "--max-total-tokens", "16384", "--mem-fraction-static", "0.95",
    ]  # fmt: skip
    assert words(context=8192, slots=2) == words(frozenset(), context=8192, slots=2)


def test_versions_without_an_option_do_not_get_it():
    assert "--sleep-on-idle" not in words(OLD)
    assert "--max-total-tokens" in words(OLD)


def test_fast_start_does_without_graphs_and_warm_up_by_the_names_of_the_version():
    new, old = words(profile="fast-start"), words(OLD, profile="fast-start")
    assert new[-3:] == ["--disable-decode-cuda-graph", "--disable-prefill-cuda-graph", "--skip-server-warmup"]
    assert old[-1:] == ["--disable-cuda-graph"]


def test_fast_answers_captures_a_graph_for_each_number_of_requests():
    new = words(KNOWN | {"--cuda-graph-bs-decode"}, slots=3, profile="fast-answers")
    assert new[-4:] == ["--cuda-graph-bs-decode", "1", "2", "3"]
    assert words(OLD | {"--cuda-graph-bs"}, slots=2, profile="fast-answers")[-3:] == ["--cuda-graph-bs", "1", "2"]
    assert words(frozenset(), slots=33, profile="fast-answers") == words(frozenset(), slots=33)


def test_versions_that_may_capture_graphs_for_more_requests_than_come_are_told():
    assert words(OLD, slots=6)[-2:] == ["--cuda-graph-max-bs", "6"]
    assert "--cuda-graph-max-bs" not in words(slots=6)
    assert "--cuda-graph-max-bs" not in words(OLD, slots=6, profile="fast-start")


@pytest.mark.parametrize("own", ["--disable-cuda-graph-padding", "--cuda-graph-max-bs-decode=4", "--cuda-graph-config"])
def test_fast_answers_leaves_graphs_to_a_user_who_says_something_of_them(own):
    assert "--cuda-graph-bs-decode" in words(frozenset(), slots=3, profile="fast-answers")
    assert "--cuda-graph-bs-decode" not in words(frozenset(), slots=3, profile="fast-answers", args=(own,))


@pytest.mark.parametrize("own", ["--cuda-graph-max-bs-decode=4", "--cuda-graph-backend-decode", "--disable-cuda-graph"])
def test_fast_start_leaves_graphs_to_a_user_who_says_something_of_them(own):
    assert "--disable-decode-cuda-graph" not in words(profile="fast-start", args=(own,))


@pytest.mark.parametrize(
    ("args", "gone"),
    [
        (("--model", "other"), "--model-path"),
        (("--served-model-name=x",), "--served-model-name"),
        (("--context-length", "512"), "--context-length"),
        (("--max-running-requests", "3"), "--max-running-requests"),
        (("--max-total-tokens", "99"), "--max-total-tokens"),
        (("--mem-fraction-static", "0.8"), "--mem-fraction-static"),
        (("--mem-fraction-static", "0.8"), "--max-total-tokens"),
        (("--sleep-on-idle",), "--sleep-on-idle"),
    ],
)
def test_what_the_user_says_is_not_said_by_us(args, gone):
    assert gone in words()
    assert gone not in words(args=args)


def test_a_context_of_the_users_sizes_the_pool():
    said = words(args=("--context-length", "1Ki"), slots=2)
    assert said[said.index("--max-total-tokens") + 1] == "2048"


def test_models_that_embed_or_rank_are_told_to():
    for settings, facts in (({"kind": "embedding"}, llama_8b()), ({}, embedder()), ({}, llama_8b(kind=Kind.RERANK))):
        made = model(**settings)
        assert "--is-embedding" in list(options.chosen(flags.wanted(made, facts), (), KNOWN))
    assert "--is-embedding" not in words()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), Said()),
        (("--kv-cache-dtype", "fp8_e5m2"), Said(wide=1)),
        (("--kv-cache-dtype=bfloat16",), Said()),
        (("--dtype", "float32"), Said(wide=4)),
        (("--tp", "4", "--pp-size", "2"), Said(tensor=4, pipeline=2)),
        (("--tensor-parallel-size=8",), Said(tensor=8)),
        (("--max-running-requests=9", "--max-total-tokens", "1000"), Said(slots=9, tokens=1000)),
    ],
)
def test_what_the_users_arguments_say(args, said):
    assert flags.said(model(args=args)) == said
