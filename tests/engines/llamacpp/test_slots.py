"""Whose conversations can be saved, what that takes, and what is said to llama-server's slots (spec D11)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from roundhouse.core.model import Kind
from roundhouse.engines.llamacpp import LlamaCpp, slots
from roundhouse.engines.llamacpp.layout import cache, layout, window_cost
from roundhouse.engines.llamacpp.slots import LlamaSlots
from roundhouse.ports import Build, Reply
from tests.engines.models import MIB, embedder, gemma_270m, llama_8b, model

ENGINE = LlamaCpp()
FOLDER = Path("/state/sessions")
NEW = Build(("llama-server",), flags=frozenset({"--slot-save-path", "--cache-ram", "--swa-full"}))


def kept(facts=None, **settings) -> object:
    return ENGINE.conversations(model(sessions=True, **settings), llama_8b() if facts is None else facts)


def test_d11_a_model_with_full_attention_needs_nothing_more():
    assert kept() == LlamaSlots(slots.per_token(model(sessions=True), llama_8b()))
    assert not layout(model(sessions=True), llama_8b()).swa_full


def test_d11_a_sliding_window_is_kept_whole_where_that_is_cheap_and_counted():
    asked, facts = model(sessions=True, context=8192, slots=1), gemma_270m()
    plan = layout(asked, facts)
    assert plan.swa_full
    assert isinstance(ENGINE.conversations(asked, facts), LlamaSlots)
    assert "--swa-full" in ENGINE.command(asked, facts, NEW, 1).argv
    assert cache(plan, facts) - cache(replace(plan, swa_full=False), facts) == window_cost(
        replace(plan, swa_full=False), facts
    )
    assert ENGINE.footprint(asked, facts) > ENGINE.footprint(model(context=8192, slots=1), facts) + 100 * MIB


def test_d11_without_sessions_a_window_stays_small():
    assert not layout(model(sessions=False, context=8192), gemma_270m()).swa_full
    assert not layout(model(context=8192), gemma_270m()).swa_full


def test_d11_a_window_that_would_cost_much_is_left_and_the_price_told():
    asked = model(sessions=True, context=131072, slots=1)
    assert not layout(asked, gemma_270m()).swa_full
    assert ENGINE.conversations(asked, gemma_270m()) == (
        "its sliding window forgets what would have to be restored; `args: [--swa-full]` keeps it, for 1.9 GiB more"
    )
    assert isinstance(kept(gemma_270m(), context=131072, slots=1, args=("--swa-full",)), LlamaSlots)


@pytest.mark.parametrize(
    ("facts", "settings", "word"),
    [
        (llama_8b(), {"script": Path("/start.sh")}, "our words"),
        (llama_8b(), {"launcher": "attached"}, "our words"),
        (llama_8b(), {"args": ("--slot-save-path", "/mine")}, "of their own"),
        (llama_8b(), {"args": ("--no-cache-prompt",)}, "--no-cache-prompt"),
        (llama_8b(), {"mmproj": Path("/mmproj.gguf")}, "vision projector"),
        (replace(llama_8b(), state=1000), {}, "recurrent"),
    ],
)
def test_d11_where_nothing_can_be_saved_the_reason_is_told(facts, settings, word):
    assert word in str(kept(facts, **settings))


def test_d11_switched_off_is_a_reason_too_and_other_kinds_have_none():
    assert ENGINE.conversations(model(sessions=False), llama_8b()) == "they are switched off (`sessions`)"
    assert ENGINE.conversations(model(sessions=True), embedder()) is None
    assert ENGINE.conversations(model(sessions=True, kind=Kind.RERANK.value), llama_8b()) is None


def test_d11_a_token_takes_in_a_file_what_it_takes_in_the_cache():
    assert slots.per_token(model(sessions=True, slots=3), llama_8b()) == 32 * 8 * 128 * 2 * 2
    assert slots.per_token(model(sessions=True), None) == 0


def test_d11_the_folder_comes_to_the_command_line_and_the_cache_that_nobody_counts_goes():
    assert LlamaSlots(1).arguments(FOLDER, NEW) == ("--slot-save-path", str(FOLDER), "--cache-ram", "0")
    assert LlamaSlots(1).arguments(FOLDER, Build(("x",))) == LlamaSlots(1).arguments(FOLDER, NEW)


def test_d11_an_older_build_or_the_users_own_words_are_respected():
    assert LlamaSlots(1).arguments(FOLDER, Build(("x",), flags=frozenset({"--fit"}))) == ()
    older = Build(("x",), flags=frozenset({"--slot-save-path"}))
    assert LlamaSlots(1).arguments(FOLDER, older) == ("--slot-save-path", str(FOLDER))
    assert LlamaSlots(1, ("-cram", "512")).arguments(FOLDER, NEW) == ("--slot-save-path", str(FOLDER))


def test_d11_what_is_said_to_a_slot():
    step = LlamaSlots(1).save(3, "a.part", 7.0)
    assert (step.method, step.path, json.loads(step.body), step.timeout) == (
        "POST", "/slots/3?action=save", {"filename": "a.part"}, 7.0
    )  # fmt: skip
    assert LlamaSlots(1).restore(0, "a.kv", 7.0).path == "/slots/0?action=restore"
    assert LlamaSlots(1).erase(4, 7.0).path == "/slots/4?action=erase"
    assert LlamaSlots(1).fields(2, fresh=False) == {"id_slot": 2}
    assert LlamaSlots(1).fields(2, fresh=True) == {"id_slot": 2, "cache_prompt": False}


@pytest.mark.parametrize(
    ("status", "body", "tokens"),
    [
        # As b10434 answered.
        (200, b'{"id_slot":1,"filename":"x.kv","n_saved":2809,"n_written":64765072,"timings":{"save_ms":65.2}}', 2809),
        (200, b'{"id_slot":0,"filename":"x.kv","n_restored":2809,"n_read":64765072,"timings":{}}', 2809),
        (200, b'{"id_slot":0,"filename":"e.kv","n_saved":0,"n_written":40,"timings":{"save_ms":0.165}}', 0),
        (200, b'{"n_saved":2809,"n_written":0}', None),
        (400, b'{"error":{"code":400,"message":"Unable to restore slot: No available space in KV cache"}}', None),
        (200, b"nonsense", None),
        (200, b"[]", None),
        (0, b"", None),
    ],
)
def test_d11_what_a_slot_answers(status: int, body: bytes, tokens: int | None):
    assert LlamaSlots(1).tokens(Reply(status, body)) == tokens


def test_d11_what_an_answer_tells_of_its_prompt():
    timings = {"cache_n": 2809, "prompt_n": 15, "prompt_ms": 200.0}
    assert (LlamaSlots(1).reused(timings), LlamaSlots(1).computed(timings)) == (2809, (15, 0.2))
    assert (LlamaSlots(1).reused({}), LlamaSlots(1).computed({})) == (None, None)


def test_d11_of_a_window_only_the_last_one_is_saved():
    sliding = ENGINE.conversations(model(sessions=True, context=8192, slots=1), gemma_270m())
    assert isinstance(sliding, LlamaSlots)
    assert sliding.window == gemma_270m().window > 0
    assert (sliding.floor(sliding.window), sliding.floor(sliding.window + 1)) == (0, sliding.window + 1)
    assert LlamaSlots(1).floor(5000) == 0


def test_d11_a_trial_computes_a_prompt_and_says_nothing():
    body = {"messages": [], "max_tokens": 9, "stream": True, "stream_options": {}, "seed": 2**70}
    step = LlamaSlots(1).trial("/v1/chat/completions", json.dumps(body).encode(), 7.0)
    assert (step.method, step.path, step.timeout) == ("POST", "/v1/chat/completions", 7.0)
    assert json.loads(step.body) == {"messages": [], "max_tokens": 9, "seed": 2**70, "n_predict": 0}
    assert LlamaSlots(1).found(Reply(200, b'{"timings":{"cache_n":5}}')) == 5
    for reply in (Reply(400, b'{"timings":{"cache_n":5}}'), Reply(200, b"{}"), Reply(200, b"[]"), Reply(200, b"x")):
        assert LlamaSlots(1).found(reply) is None
