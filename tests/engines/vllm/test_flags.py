from __future__ import annotations

from pathlib import Path

import pytest

from roundhouse.engines import options
from roundhouse.engines.paged import Said
from roundhouse.engines.vllm import flags
from roundhouse.ports import Build
from roundhouse.runtime.interpreters import options_in
from tests.engines.models import CAPTURES, embedder, llama_8b, model

KNOWN = options_in((CAPTURES.parent / "vllm" / "help-0.32.0.txt").read_text("utf-8"))
OLD = KNOWN - {"--kv-cache-memory-bytes", "--shutdown-timeout", "--runner"}


def words(known: frozenset[str] = KNOWN, **settings: object) -> list[str]:
    made = model(path=Path("/models/tiny"), engine="vllm", **settings)
    return list(options.chosen(flags.wanted(made, llama_8b(), Build((), "", known)), made.args, known))


def test_c2_all_that_is_said_to_0_32_0():
    assert words(context=1024, slots=4) == [
        "--model", "/models/tiny", "--served-model-name", "m", "--max-model-len", "1024", "--max-num-seqs", "4",
        "--kv-cache-memory-bytes", str((4096 + 128) * 131072), "--gpu-memory-utilization", "0.01",
        "--shutdown-timeout", "5",
    ]  # fmt: skip
    assert words(context=1024) == words(frozenset(), context=1024)


def test_d1_the_share_is_made_small_only_where_the_cache_has_a_size():
    assert "--gpu-memory-utilization" not in words(OLD)
    assert "--gpu-memory-utilization" in words()
    own = words(args=("--gpu-memory-utilization", "0.5"))
    assert "--kv-cache-memory-bytes" not in own
    assert "--gpu-memory-utilization" not in own


def test_a_size_of_the_users_needs_the_small_share_too():
    own = words(args=("--kv-cache-memory-bytes=1G",))
    assert "--kv-cache-memory-bytes" not in own
    assert own[own.index("--gpu-memory-utilization") + 1] == "0.01"


def test_blocks_of_the_users_keep_vllms_own_share():
    own = words(args=("--num-gpu-blocks-override", "500"))
    assert "--kv-cache-memory-bytes" not in own
    assert "--gpu-memory-utilization" not in own


def test_profiles():
    assert words(profile="fast-start")[-1] == "--enforce-eager"
    assert "--enforce-eager" not in words(profile="fast-start", args=("--no-enforce-eager",))
    assert words(profile="fast-answers")[-2:] == ["--performance-mode", "interactivity"]
    assert words(KNOWN - {"--performance-mode"}, profile="fast-answers") == words(profile="balanced")


@pytest.mark.parametrize("own", ["-O3", "--cudagraph-capture-sizes", "-cc", "--enforce_eager"])
@pytest.mark.parametrize("profile", ["fast-start", "fast-answers"])
def test_a_profile_leaves_compilation_to_a_user_who_says_something_of_it(profile, own):
    assert words(profile=profile, args=(own,)) == words(args=(own,))


def test_models_that_embed_or_rank_are_run_as_such():
    made = model()
    said = list(options.chosen(flags.wanted(made, embedder(), Build(())), (), KNOWN))
    assert said[said.index("--runner") + 1] == "pooling"
    made = model(kind="rerank", args=("--task", "score"))
    assert "--runner" not in list(options.chosen(flags.wanted(made, llama_8b(), Build(())), made.args, KNOWN))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), Said()),
        (("--max_model_len", "16k", "--max-num-seqs=9"), Said(context=16000, slots=9)),
        (("--max-model-len", "auto"), Said()),
        (("--kv-cache-dtype", "fp8"), Said(wide=1)),
        (("--dtype=float32",), Said(wide=4)),
        (("-tp", "4", "-pp=2"), Said(tensor=4, pipeline=2)),
    ],
)
def test_what_the_users_arguments_say(args, said):
    assert flags.said(model(args=args)) == said
