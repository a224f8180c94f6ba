"""Advice: each piece said where it is true, and nowhere else."""

from __future__ import annotations

import pytest

from roundhouse.app.advice import GIB, advise
from roundhouse.config.models import ModelConfig, Tabby
from roundhouse.ports import ModelFacts
from tests.app.test_start_script import LLAMACPP, SGLANG


def model(**settings):
    return ModelConfig(id="m", **{"engine": "llamacpp", "launcher": "process", **settings})


def script(text, engine="sglang", port=30000, **settings):
    found = model(script="/srv/start.sh", engine=engine, port=port, memory="1GiB", **settings)
    return [str(piece) for piece in advise(found, None, text)]


def said(found, facts=None):
    return " | ".join(map(str, advise(found, facts)))


def facts(kind, size, form="gguf", **more):
    return ModelFacts(format=form, quantisation=kind, weights=int(size * GIB), **more)


def test_g4_b19_a_script_that_listens_everywhere():
    (host, *rest) = [text for text in script(SGLANG) if "0.0.0.0" in text]
    assert "write --host 127.0.0.1" in host
    assert rest == []
    assert not any("reach it past" in text for text in script(SGLANG.replace("0.0.0.0", "127.0.0.1")))


def test_g4_b19_a_command_that_listens_everywhere():
    assert "write --host 127.0.0.1" in said(model(command="serve --host=0.0.0.0", engine="openai"))
    assert "--host" not in said(model(path="/m", args=("--host", "0.0.0.0")))


def test_g4_sleep_on_idle_is_missed_in_scripts_of_sglang_alone():
    without = SGLANG.replace("--sleep-on-idle", "")
    assert any("lacks --sleep-on-idle" in text for text in script(without))
    assert not any("sleep-on-idle" in text for text in script(SGLANG))
    assert not any("sleep-on-idle" in text for text in script(without, engine="openai"))


def test_g4_a_script_without_exec():
    assert any("`exec python …`" in text for text in script(SGLANG))
    assert not any("exec" in text for text in script(LLAMACPP, "llamacpp", 8085))


@pytest.mark.parametrize(("port", "wrong"), [(30000, False), (30001, True)])
def test_g4_the_port_in_the_script_is_the_configured_one(port, wrong):
    assert any("waits for it on port" in text for text in script(SGLANG, port=port)) is wrong


def test_a_script_that_takes_our_port_is_right():
    text = SGLANG.replace("30000", "${PORT}")
    assert not any("port" in piece for piece in script(text))


def test_f4_a_key_on_the_command_line():
    assert "API key stands on its command line" in said(model(command="serve --api-key abc", engine="openai"))
    assert "API key" not in said(model(command="serve --port 1", engine="openai"))
    assert "abc" not in said(model(command="serve --api-key abc", engine="openai"))


def test_d1_a_share_of_the_device_that_roundhouse_does_not_know_of():
    told = said(model(command="sglang serve --mem-fraction-static 0.85 --port 1", engine="openai"))
    assert "--mem-fraction-static 0.85 takes that share" in told
    assert "known only after its first load" not in told
    assert "known only after its first load" in said(model(command="serve --port 1", engine="openai"))


def test_d1_a_script_runs_alone_until_it_was_measured():
    found = model(script="/s", engine="sglang", port=30000)
    assert any("its device for itself" in str(piece) for piece in advise(found, None, SGLANG))
    assert not any("its device for itself" in piece for piece in script(SGLANG))


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_d1_engines_told_no_fraction_get_no_advice_on_it(engine):
    assert said(model(path="/m", engine=engine)) == ""


def test_d1_an_engine_that_takes_a_share_whatever_it_needs():
    free = said(model(path="/m", engine="sglang", args=("--mem-fraction-static", "0.9")))
    assert "(--mem-fraction-static 0.9), so it runs alone there" in free
    assert "30% of all that there is" in said(model(path="/m", engine="vllm", args=("--gpu-memory-utilization", "0.3")))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (facts("Q8_0", 120), "IQ4_NL or Q4_K_M"),
        (facts("Q5_K_M", 81), "IQ4_NL or Q4_K_M"),
        (facts("IQ4_NL", 66), None),
        (facts("Q4_K_M", 70), None),
        (facts("Q8_0", 8), None),
        (facts("bfloat16", 140, "safetensors"), "an AWQ version takes about a quarter"),
        (facts("awq 4 bit", 61, "safetensors"), None),
        (facts("bfloat16", 1, "safetensors"), None),
        (facts("EXL2 8 bpw", 60, "exl2"), "3.0 to 6.0 bits"),
        (facts("EXL2 4 bpw", 60, "exl2"), None),
        (facts("EXL3 8 bpw", 60, "exl3"), None),
        (facts(None, 90), None),
    ],
)
def test_g4_the_vram_tips_where_they_help(found, words):
    text = said(model(path="/m", pinned=True), found)
    assert (words in text) if words else text == ""


def test_g4_the_first_answer_after_a_switch():
    assert "waits for 70 GiB" in said(model(path="/m"), facts("Q4_K_M", 70))
    assert said(model(path="/m", preload=True), facts("Q4_K_M", 70)) == ""
    assert said(model(path="/m"), facts("Q4_K_M", 7)) == ""


def test_a_context_beyond_what_it_was_trained_for():
    assert "trained for 4096" in said(model(path="/m", context=8192), facts("Q4_K_M", 1, context=4096))
    assert said(model(path="/m", context=4096), facts("Q4_K_M", 1, context=4096)) == ""
    assert said(model(path="/m", context=8192), facts("Q4_K_M", 1)) == ""


@pytest.mark.parametrize(
    ("mode", "words"),
    [(None, "Q8` needs half"), ("Q5", "knows no cache_mode Q5"), ("Q8", ""), ("8,4", ""), ("fp16", "")],
)
def test_g4_the_cache_mode_of_tabbyapi(mode, words):
    tabby = Tabby(dir="/t", model_dir="/m", model_name="x", cache_mode=mode)
    text = said(model(tabby=tabby, engine="tabbyapi"))
    assert words in text if words else "cache" not in text


def test_what_can_not_be_seen_of_a_commands_kind():
    found = model(command="serve --embedding", engine="openai", memory="1GiB")
    assert "set `kind: embedding`" in said(found)
    assert said(found.model_copy(update={"kind": "embedding"})) == ""


def test_torch_compile_makes_switching_slow():
    assert "minutes longer" in said(model(path="/m", engine="sglang", args=("--enable-torch-compile",)))


def test_models_of_others_get_no_advice():
    assert advise(model(url="http://127.0.0.1:1/v1", engine="openai"), None) == ()
    assert advise(ModelConfig(id="m", any_of=("a",)), None) == ()


def test_a_fast_start_of_a_model_that_seldom_starts():
    for settings, why in (({"pinned": True}, "it is pinned"), ({"preload": True}, "it is preloaded")):
        assert why in said(model(path="/m", profile="fast-start", **settings))
        assert why not in said(model(path="/m", profile="fast-answers", **settings))
        assert why not in said(model(path="/m", **settings))
    assert "profile" not in said(model(path="/m", profile="fast-start"))


def test_fast_answers_of_a_model_that_often_starts():
    often = model(path="/m", profile="fast-answers", ttl=60.0)
    assert "its `ttl` of 60 s makes them frequent" in said(often)
    for ttl, more in (
        ("auto", {}),
        (None, {}),
        (3600.0, {}),
        (60.0, {"pinned": True}),
        (60.0, {"profile": "balanced"}),
    ):
        assert "frequent" not in said(model(**{"path": "/m", "profile": "fast-answers", "ttl": ttl, **more}))


def test_a_profile_where_it_chooses_nothing():
    assert "changes nothing" in said(model(command="serve", engine="openai", memory=1, profile="fast-start"))
    assert "changes nothing" in said(model(path="/m", engine="tabbyapi", profile="fast-answers"))
    assert "changes nothing" in " ".join(script(SGLANG, profile="fast-start"))
    assert "profile" not in said(model(command="serve", engine="openai", memory=1))
