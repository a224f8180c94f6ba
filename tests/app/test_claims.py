from __future__ import annotations

import pytest

from roundhouse.app.places import Box
from roundhouse.app.specs import Looked, fingerprint, make_spec
from roundhouse.config.models import ModelConfig, Tabby
from roundhouse.core.margins import next_claim
from roundhouse.engines import ENGINES
from tests.app.twogpus import FACTS, LARGE, RAM_ONLY, box, estimate, measured, spec
from tests.engines.models import GIB, llama_8b, model


def margin(size: int) -> int:
    return next_claim([size])


def test_d2_without_devices_any_gpu_that_is_large_enough_will_do():
    size = estimate(model())
    assert spec(model()) == ({"gpu0": size}, {"gpu1": size})


def test_d2_a_gpu_that_is_too_small_is_none_of_them():
    assert [set(claim) for claim in spec(model(), on=box(gpu0=2 * GIB))] == [{"gpu1"}]


def test_d2_a_budget_counts_not_the_size():
    assert [set(claim) for claim in spec(model(), on=box(budgets={"gpu0": 2 * GIB}))] == [{"gpu1"}]


def test_d2_what_fits_on_none_is_divided_over_all_by_their_size():
    (only,) = spec(model(), LARGE, box(16 * GIB, 12 * GIB))
    assert tuple(only.values()) == ENGINES["llamacpp"].split(model(), LARGE, (16, 12))
    assert list(only) == ["gpu0", "gpu1"]


def test_what_fits_nowhere_stays_a_claim_that_says_how_much_is_missing():
    (only,) = spec(model(), llama_8b(weights=90 * GIB))
    assert set(only) == {"gpu0", "gpu1"}
    assert sum(only.values()) > 90 * GIB
    (only,) = spec(model(), llama_8b(weights=90 * GIB), Box({"gpu0": GIB, "ram": GIB}))
    assert set(only) == {"gpu0"}


def test_d2_without_a_gpu_it_is_ram():
    assert spec(model(), on=RAM_ONLY) == ({"ram": estimate(model())},)


def test_d2_gpu10_comes_after_gpu2():
    many = Box({f"gpu{n}": 24 * GIB for n in (10, 2, 0)})
    assert [next(iter(claim)) for claim in spec(model(), on=many)] == ["gpu0", "gpu2", "gpu10"]


def test_d2_one_device_named_is_that_one_only():
    assert spec(model(devices=("gpu1",))) == ({"gpu1": estimate(model())},)
    assert spec(model(devices=("ram",))) == ({"ram": estimate(model())},)
    assert spec(model(devices=("GPU-bbbb",))) == ({"gpu1": estimate(model())},)


def test_d2_several_devices_named_are_these_together():
    (only,) = spec(model(devices=("gpu1", "gpu0")))
    assert tuple(only.values()) == ENGINES["llamacpp"].split(model(), FACTS, (16, 24))
    assert list(only) == ["gpu1", "gpu0"]


def test_d1_memory_by_device_is_just_that():
    assert spec(model(memory={"gpu0": "4GiB", "ram": "2GiB"})) == ({"gpu0": 4 * GIB, "ram": 2 * GIB},)


def test_d1_memory_in_one_figure_is_for_any_one_gpu_or_divided():
    assert spec(model(memory="4GiB")) == ({"gpu0": 4 * GIB}, {"gpu1": 4 * GIB})
    assert spec(model(memory="35GiB")) == ({"gpu0": 21 * GIB, "gpu1": 14 * GIB},)
    assert spec(model(memory="20GiB")) == ({"gpu0": 20 * GIB},)


def test_d1_a_figure_measured_on_one_gpu_holds_for_another():
    peaks = measured(model(), {"gpu1": 10 * GIB})
    assert spec(model(), peaks=peaks) == tuple({d: margin(10 * GIB)} for d in ("gpu0", "gpu1"))


def test_d1_what_was_measured_here_wins_over_what_was_there():
    peaks = measured(model(), {"gpu1": 10 * GIB}, {"gpu0": 8 * GIB})
    assert [*map(dict, spec(model(), peaks=peaks))] == [
        {"gpu0": margin(8 * GIB)},
        {"gpu1": margin(10 * GIB)},
    ]


def test_d1_a_figure_of_ram_says_nothing_of_gpus():
    assert spec(model(), peaks=measured(model(), {"ram": 10 * GIB}))[0] == {"gpu0": estimate(model())}


def test_d1_a_divided_figure_holds_for_the_same_devices_only():
    asked = model(devices=("gpu0", "gpu1"))
    figure = {"gpu0": 5 * GIB, "gpu1": 3 * GIB}
    assert spec(asked, peaks=measured(asked, figure)) == ({d: margin(s) for d, s in figure.items()},)
    assert spec(model(), peaks=measured(model(), figure))[0] == {"gpu0": estimate(model())}


def test_d1_figures_of_single_gpus_are_no_divided_one():
    asked = model(devices=("gpu0", "gpu1"))
    (only,) = spec(asked, peaks=measured(asked, {"gpu0": 9 * GIB}, {"gpu1": 9 * GIB}))
    assert tuple(only.values()) == ENGINES["llamacpp"].split(asked, FACTS, (24, 16))


def test_d1_figures_of_older_versions_count_where_they_are_of_one_device():
    settings = fingerprint(model(), Looked(FACTS, None, 0))
    assert spec(model(), peaks={("m", settings): {"gpu0": [10 * GIB]}})[0] == {"gpu0": margin(10 * GIB)}
    assert spec(model(), peaks={("m", settings): {"gpu0": [1], "gpu1": [1]}})[0] == {"gpu0": estimate(model())}


def test_d1_a_measured_figure_is_never_more_than_there_is():
    assert spec(model(), peaks=measured(model(), {"gpu0": 24 * GIB}))[0] == {"gpu0": 24 * GIB}
    assert spec(model(), peaks=measured(model(), {"gpu1": 16 * GIB}))[1] == {"gpu1": 16 * GIB}


def vllm(*args, **said):
    return model(engine="vllm", args=args, **said)


def test_d1_a_share_of_the_total_is_claimed_just_so_on_each_gpu():
    share = vllm("--gpu-memory-utilization", "0.25")
    assert spec(share) == ({"gpu0": 6 * GIB}, {"gpu1": 4 * GIB})


def test_d1_a_share_is_of_the_physical_size_whatever_the_budget():
    share = vllm("--gpu-memory-utilization", "0.25")
    assert spec(share, on=box(budgets={"gpu0": 8 * GIB}))[0] == {"gpu0": 6 * GIB}


def test_d1_a_share_must_be_free_at_the_start_whatever_was_measured():
    share = vllm("--gpu-memory-utilization", "0.25")
    assert spec(share, peaks=measured(share, {"gpu0": GIB}))[0] == {"gpu0": 6 * GIB}
    assert spec(share, peaks=measured(share, {"gpu0": 7 * GIB}))[0] == {"gpu0": margin(7 * GIB)}


def test_d1_a_share_of_several_gpus_is_taken_of_each():
    share = vllm("--gpu-memory-utilization=0.25", devices=("gpu0", "gpu1"))
    assert spec(share) == ({"gpu0": 6 * GIB, "gpu1": 4 * GIB},)


def test_d1_a_share_of_what_is_free_is_a_claim_of_the_whole_budget():
    greedy = model(engine="sglang", args=("--mem-fraction-static", "0.85"))
    assert spec(greedy, on=box(budgets={"gpu0": 20 * GIB})) == ({"gpu0": 20 * GIB}, {"gpu1": 16 * GIB})
    assert spec(greedy, peaks=measured(greedy, {"gpu0": GIB}))[0] == {"gpu0": 24 * GIB}


def test_d2_an_engine_cut_across_gpus_by_the_user_takes_groups_of_so_many():
    three = Box({f"gpu{n}": 24 * GIB for n in range(3)})
    asked = vllm("-tp", "2")
    assert [list(claim) for claim in spec(asked, on=three)] == [["gpu0", "gpu1"], ["gpu1", "gpu2"]]
    assert set(spec(asked, on=three)[0].values()) == {ENGINES["vllm"].footprint(asked, FACTS, gpus=2)}
    assert [set(claim) for claim in spec(vllm("-tp", "2", devices=("gpu2", "gpu0")), on=three)] == [{"gpu2", "gpu0"}]


@pytest.mark.parametrize(
    ("said", "devices"),
    [
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, ["gpu1"]),
        ({"env": {"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}}, ["gpu1"]),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1,0"}}, ["gpu1", "gpu0"]),
        ({"env": {"CUDA_VISIBLE_DEVICES": ""}}, ["ram"]),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}, "devices": ("gpu0",)}, ["gpu1"]),
        ({"args": ("-ngl", "0")}, ["ram"]),
        ({"args": ("--device", "none")}, ["ram"]),
        ({"args": ("-sm", "none", "-mg", "1")}, ["gpu1"]),
        ({"args": ("-sm", "none", "-mg", "1"), "devices": ("gpu1", "gpu0")}, ["gpu0"]),
        ({"args": ("-ts", "0,1")}, ["gpu1"]),
        ({"args": ("-mg", "1")}, ["gpu0", "gpu1"]),
        ({"args": ("-dev", "CUDA7")}, ["gpu0"]),
    ],
)
def test_d2_the_claim_follows_the_users_own_words(said, devices):
    assert list(spec(model(**said))[0]) == devices


def test_d2_proportions_of_the_users_own():
    (only,) = spec(model(args=("-ts", "1,3")))
    assert tuple(only.values()) == ENGINES["llamacpp"].split(model(), FACTS, (1, 3))


def test_d2_a_users_command_or_script_is_on_the_first_gpu_until_devices_say_otherwise():
    command = model(path=None, command="serve", engine="openai", memory="4GiB")
    assert spec(command, None) == ({"gpu0": 4 * GIB},)
    assert spec(command.model_copy(update={"devices": ("gpu1",)}), None) == ({"gpu1": 4 * GIB},)
    script = model(path=None, script="/s", engine="sglang", port=30000)
    assert spec(script, None) == ({"gpu0": 24 * GIB, "port:30000": 1},)


def test_models_of_others_claim_nothing():
    remote = ModelConfig(id="m", url="http://127.0.0.1:1/v1", engine="openai", launcher="attached")
    assert spec(remote, None) == ({},)


def test_d2_a_model_of_tabbyapi_follows_its_gpu_split():
    tabby = Tabby(dir="/t", model_dir="/m", model_name="x", options={"gpu_split": [0, 20]})
    asked = ModelConfig(id="m", tabby=tabby, engine="tabbyapi", launcher="process")
    assert [set(claim) for claim in spec(asked)] == [{"gpu1", "port:5000"}]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (vllm("--gpu-memory-utilization", "0.25"), {"gpu0": 6 * GIB, "gpu1": 4 * GIB}),
        (model(engine="sglang", args=("--mem-fraction-static", "0.85")), {"gpu0": 24 * GIB, "gpu1": 16 * GIB}),
        (vllm("--gpu-memory-utilization", "0.25", memory={"gpu0": "4GiB"}), {}),
        (vllm(), {}),
        (model(), {}),
    ],
)
def test_d1_what_an_engine_is_told_to_take_is_the_least_that_it_is_promised(asked, told):
    """Whatever is measured later (`runtime.peaks`)."""
    assert make_spec(asked, Looked(FACTS, None, 0), box(), {}, {}).told == told
