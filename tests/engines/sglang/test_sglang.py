from __future__ import annotations

from pathlib import Path

import pytest

from roundhouse.engines.sglang import SGLang
from roundhouse.ports import Build, Served, Share, Wish
from tests.engines.models import CAPTURES, MIB, TWO, llama_8b, model

ENGINE = SGLang()
HERE = CAPTURES.parent / "sglang"
REPLIES = {
    "/v1/models": (HERE / "models.json").read_bytes(),
    "/server_info": (HERE / "server_info.json").read_bytes(),
}
BUILD = Build(("/venv/bin/python", "-m", "sglang.launch_server"), "0.5.23")


def test_c2_what_it_is_started_as():
    assert (ENGINE.name, ENGINE.module, ENGINE.default_port) == ("sglang", "sglang.launch_server", 30000)


def test_the_users_arguments_come_after_ours_and_the_address_last():
    made = ENGINE.command(model(args=("--tp", "2", "--port", "99", "--host", "0.0.0.0")), llama_8b(), BUILD, 4711)
    assert made.argv[:3] == BUILD.argv
    assert made.argv[-10:] == (
        "--tp",
        "2",
        "--port",
        "99",
        "--host",
        "0.0.0.0",
        "--host",
        "127.0.0.1",
        "--port",
        "4711",
    )


def test_its_output_is_not_held_back_and_the_users_environment_wins():
    assert ENGINE.command(model(), None, BUILD, 1).env == {"PYTHONUNBUFFERED": "1"}
    assert ENGINE.command(model(env={"PYTHONUNBUFFERED": "0", "X": "y"}), None, BUILD, 1).env == {
        "PYTHONUNBUFFERED": "0", "X": "y",
    }  # fmt: skip


def test_c4_ready_first_and_health_where_that_is_missing():
    assert ENGINE.ready_paths(model()) == ("/ready", "/health")
    assert ENGINE.ready_paths(model(health="/mine")) == ("/mine",)
    assert ENGINE.is_ready(200, b"")
    assert not ENGINE.is_ready(503, b"")


def test_b11_memory_and_names_come_from_the_engine_itself():
    asked = set(ENGINE.facts_paths)
    assert REPLIES.keys() <= asked
    assert ENGINE.served(REPLIES) == Served(slots=4, context=1024, name="tiny", memory=int(0.03 * 2**30))


def test_b3_a_running_one_with_another_folder_is_not_this_models():
    assert ENGINE.serves(model(path=Path("/models/tiny")), REPLIES)
    assert not ENGINE.serves(model(path=Path("/models/huge"), served_name="tiny"), REPLIES)
    assert ENGINE.serves(model(path=Path("/models/tiny")), {})
    assert ENGINE.serves(model(path=None, script=Path("/s.sh")), REPLIES)


def test_a_request_that_is_left_ends_by_itself():
    assert not ENGINE.streams_to_abort


def test_its_end_without_limit_is_given_one_that_the_end_of_an_idle_one_fits_in():
    assert 8 < ENGINE.stop_grace <= 15


@pytest.mark.parametrize("kind", ["exl2", "exl3"])
def test_formats_of_exllama_are_refused_before_loading(kind):
    words = ENGINE.objection(model(path=Path("/models/x")), llama_8b(format=kind), frozenset())
    assert words == f"/models/x is in the format {kind.upper()}, which SGLang can't load: set `engine: tabbyapi`"


def test_others_are_not():
    assert ENGINE.objection(model(), llama_8b(format="safetensors"), frozenset()) is None
    assert ENGINE.objection(model(), None, frozenset()) is None


def test_d1_the_estimate_is_weights_cache_and_what_it_keeps_aside():
    facts, tokens = llama_8b(weights=2**34), 4096 * 4
    aside = (1024 + 3072) * MIB
    made = model(context=4096, slots=4)
    assert ENGINE.footprint(made, facts) == 2**34 + (tokens + 128) * 131072 + aside
    assert ENGINE.footprint(model(context=4096, slots=4, args=("--tp=2",)), facts) == (
        2**33 + (tokens + 128) * 65536 + aside
    )
    longer = model(context=4096, slots=4, args=("--chunked-prefill-size", "8192"))
    assert (ENGINE.footprint(longer, facts) or 0) - (ENGINE.footprint(made, facts) or 0) == 6144 * 3 // 2 * MIB


def test_without_facts_nothing_is_estimated():
    assert ENGINE.footprint(model(), None) is None
    assert ENGINE.footprint(model(), llama_8b(weights=0)) is None


@pytest.mark.parametrize(
    ("args", "share"),
    [
        ((), None),
        (("--mem-fraction-static", "0.9"), Share("free", 0.9)),
        (("--mem-fraction-static", "much"), Share("free", 1.0)),
        (("--mem-fraction-static=0.9", "--max-total-tokens=1000"), None),
    ],
)
def test_d1_a_users_fraction_is_of_what_is_free(args, share):
    assert ENGINE.share(model(args=args)) == share


def test_d2_it_is_cut_across_the_gpus_of_its_place_by_number():
    argv = ENGINE.command(model(), llama_8b(), BUILD, 1, TWO).argv
    assert argv[argv.index("--tensor-parallel-size") + 1] == "2"
    assert "--pipeline-parallel-size" not in argv
    env = ENGINE.command(model(), llama_8b(), BUILD, 1, TWO).env
    assert (env["CUDA_DEVICE_ORDER"], env["CUDA_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "0,2")


def test_d2_layers_are_dealt_out_where_heads_can_not_be_divided():
    argv = ENGINE.command(model(), llama_8b(heads_kv=(1,) * 32), BUILD, 1, TWO).argv
    assert argv[argv.index("--pipeline-parallel-size") + 1] == "2"
    assert "--tensor-parallel-size" not in argv


def test_d2_the_users_words_on_gpus_win():
    argv = ENGINE.command(model(args=("--tp", "1")), llama_8b(), BUILD, 1, TWO).argv
    assert "--tensor-parallel-size" not in argv
    argv = ENGINE.command(model(args=("--base-gpu-id", "1")), llama_8b(), BUILD, 1, TWO).argv
    assert "--tensor-parallel-size" not in argv
    assert ENGINE.wish(model()) == Wish()
    assert ENGINE.wish(model(args=("--tp=2", "--pp", "2"))) == Wish(count=4)
    assert ENGINE.wish(model(args=("--tp=2", "--base-gpu-id", "1"))) == Wish(gpus=(1, 2))


def test_d2_two_gpus_hold_half_the_weights_and_half_the_cache_each():
    facts = llama_8b(weights=2**34)
    one, (first, second) = ENGINE.footprint(model(), facts), ENGINE.split(model(), facts, (1, 9))
    assert first == second
    assert one - first == 2**33 + (one - 2**34 - (first - 2**33))
    assert first < one
    assert ENGINE.split(model(), None, (1, 1)) is None


def test_c5_progress_and_failures_are_read_from_its_log():
    assert ENGINE.progress("[2026-11-22 17:14:58] The server is fired up and ready to roll!")
    assert ENGINE.failure(["ValueError: what"]) == "what (ValueError)"


def test_its_plan_is_what_its_command_line_says():
    wanted = model(context=2048, slots=3)
    plan = SGLang().plan(wanted, None)
    argv = SGLang().command(wanted, None, Build(("python",)), 1).argv
    assert (plan.slots, plan.context) == (3, 2048)
    assert argv[argv.index("--context-length") + 1] == "2048"
    assert argv[argv.index("--max-running-requests") + 1] == "3"
