from __future__ import annotations

from pathlib import Path

import pytest

from roundhouse.engines.vllm import VLLM, flags
from roundhouse.ports import Build, Served, Share, Wish
from tests.engines.models import CAPTURES, MIB, TWO, llama_8b, model

ENGINE = VLLM()
REPLIES = {"/v1/models": (CAPTURES.parent / "vllm" / "models.json").read_bytes()}
BUILD = Build(("/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server"), "0.32.0")


def test_c2_what_it_is_started_as():
    assert (ENGINE.name, ENGINE.module, ENGINE.default_port) == ("vllm", "vllm.entrypoints.openai.api_server", 8000)


def test_the_users_arguments_come_after_ours_and_the_address_last():
    made = ENGINE.command(model(args=("--dtype", "half", "--port", "99")), llama_8b(), BUILD, 4711)
    assert made.argv[:3] == BUILD.argv
    assert made.argv[-8:] == ("--dtype", "half", "--port", "99", "--host", "127.0.0.1", "--port", "4711")


def test_nothing_is_reported_home_and_the_users_environment_wins():
    assert ENGINE.command(model(), None, BUILD, 1).env == {"PYTHONUNBUFFERED": "1", "VLLM_NO_USAGE_STATS": "1"}
    assert ENGINE.command(model(env={"VLLM_NO_USAGE_STATS": "0"}), None, BUILD, 1).env["VLLM_NO_USAGE_STATS"] == "0"


def test_c4_health_tells_when_it_is_ready():
    assert ENGINE.ready_paths(model()) == ("/health",)
    assert ENGINE.ready_paths(model(health="/mine")) == ("/mine",)
    assert ENGINE.is_ready(200, b"")
    assert not ENGINE.is_ready(503, b"")


def test_b4_the_name_that_it_answers_to_is_told():
    assert ENGINE.served(REPLIES) == Served(slots=16, context=1024, name="tiny")
    assert ENGINE.served({}) == Served(slots=16)


def test_b3_a_running_one_with_another_folder_is_not_this_models():
    there = REPLIES["/v1/models"].replace(b"models/tiny-sharded", b"/models/tiny")
    assert ENGINE.serves(model(path=Path("/models/tiny")), {"/v1/models": there})
    assert not ENGINE.serves(model(path=Path("/models/huge"), served_name="tiny"), {"/v1/models": there})
    assert ENGINE.serves(model(path=Path("/models/tiny")), {})


def test_a_request_that_is_left_ends_by_itself():
    assert not ENGINE.streams_to_abort


def test_draining_ends_well_before_it_is_killed():
    assert 0 < flags.DRAIN < ENGINE.stop_grace


def test_formats_of_exllama_are_refused_before_loading():
    words = ENGINE.objection(model(path=Path("/models/x")), llama_8b(format="exl3"), frozenset())
    assert words == "/models/x is in the format EXL3, which vLLM can't load: set `engine: tabbyapi`"
    assert ENGINE.objection(model(), llama_8b(format="safetensors"), frozenset()) is None
    assert ENGINE.objection(model(), None, frozenset()) is None


def test_d1_the_estimate_is_weights_cache_and_a_fixed_part():
    facts = llama_8b(weights=2**34)
    made = model(context=4096, slots=4)
    assert ENGINE.footprint(made, facts) == 2**34 + (4096 * 4 + 128) * 131072 + 3072 * MIB
    assert ENGINE.footprint(model(args=("--kv-cache-memory-bytes", "1G")), facts) == 2**34 + 2**30 + 3072 * MIB
    assert ENGINE.footprint(model(), None) is None


@pytest.mark.parametrize(
    ("args", "share"),
    [
        ((), None),
        (("--gpu-memory-utilization", "0.3"), Share("total", 0.3)),
        (("--gpu_memory_utilization=0.9",), Share("total", 0.9)),
        (("--gpu-memory-utilization=0.9", "--kv-cache-memory-bytes=1G"), None),
        (("--num-gpu-blocks-override", "5"), Share("total", 0.92)),
    ],
)
def test_d1_a_users_share_is_of_the_whole_device(args, share):
    assert ENGINE.share(model(args=args)) == share


def test_d2_it_is_cut_across_the_gpus_of_its_place_and_told_them_by_number():
    """It reads the variable itself and fails on UUIDs (vLLM issue 13815)."""
    made = ENGINE.command(model(context=4096, slots=4), llama_8b(), BUILD, 1, TWO)
    assert made.argv[made.argv.index("--tensor-parallel-size") + 1] == "2"
    assert (made.env["CUDA_DEVICE_ORDER"], made.env["CUDA_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "0,2")
    assert made.argv[made.argv.index("--kv-cache-memory-bytes") + 1] == str((4096 * 4 + 128) * 65536)


def test_d2_layers_are_dealt_out_where_heads_can_not_be_divided():
    argv = ENGINE.command(model(), llama_8b(heads_kv=(3,) * 32), BUILD, 1, TWO).argv
    assert argv[argv.index("--pipeline-parallel-size") + 1] == "2"
    assert "--tensor-parallel-size" not in argv


def test_d2_the_users_words_on_gpus_win():
    made = ENGINE.command(model(args=("-tp", "1"), env={"CUDA_VISIBLE_DEVICES": "7"}), llama_8b(), BUILD, 1, TWO)
    assert "--tensor-parallel-size" not in made.argv
    assert made.env["CUDA_VISIBLE_DEVICES"] == "7"
    assert ENGINE.wish(model(args=("-tp", "2"))) == Wish(count=2)
    assert ENGINE.wish(model()) == Wish()


def test_d2_each_of_two_gpus_holds_the_same():
    facts = llama_8b(weights=2**34)
    cell = 131072 // 2
    each = 2**33 + (4096 * 4 + 128) * cell + 3072 * MIB
    assert ENGINE.split(model(context=4096, slots=4), facts, (10, 90)) == (each, each)
    assert ENGINE.split(model(), None, (1, 1)) is None


def test_c5_progress_and_failures_are_read_from_its_log():
    assert ENGINE.progress("(APIServer pid=1) INFO:     Application startup complete.")
    assert ENGINE.failure(["ValueError: what"]) == "what (ValueError)"


def test_its_plan_is_what_its_command_line_says():
    wanted = model(context=2048, slots=3)
    plan = VLLM().plan(wanted, None)
    argv = VLLM().command(wanted, None, Build(("python",)), 1).argv
    assert (plan.slots, plan.context) == (3, 2048)
    assert argv[argv.index("--max-model-len") + 1] == "2048"
    assert argv[argv.index("--max-num-seqs") + 1] == "3"
