from __future__ import annotations

from dataclasses import replace

import pytest

from roundhouse.engines.llamacpp import LlamaCpp, layout
from roundhouse.ports import Build, Wish
from tests.engines.models import GIB, NONE, ONE, TWO, llama_8b, model

ENGINE = LlamaCpp()
NEW = Build(("llama-server",))
OLD = Build(("llama-server",), "b1", frozenset({"-m", "-ngl", "-ts"}))


def made(place, build=NEW, **settings):
    return ENGINE.command(model(**settings), llama_8b(), build, 1, place)


def test_d2_one_gpu_is_all_that_it_sees():
    assert made(ONE).env["CUDA_VISIBLE_DEVICES"] == "GPU-bbbbbbbb"
    assert not {"-ts", "-sm", "-dev"} & set(made(ONE).argv)


def test_d2_over_several_gpus_it_is_divided_by_their_shares():
    argv = made(TWO).argv
    assert argv[argv.index("-ts") + 1] == "0.667,0.333"
    assert made(TWO).env["CUDA_VISIBLE_DEVICES"] == "GPU-aaaaaaaa,GPU-cccccccc"


def test_d2_in_ram_it_uses_no_gpu_of_any_kind():
    argv = made(NONE).argv
    assert argv[argv.index("-dev") + 1] == "none"
    assert made(NONE).env["CUDA_VISIBLE_DEVICES"] == ""
    argv = made(NONE, OLD).argv
    assert argv[argv.index("-ngl") + 1] in {"0", "999"}
    assert argv[len(argv) - 1 - argv[::-1].index("-ngl") + 1] == "0"


def test_without_a_place_nothing_is_said_of_devices():
    assert not {"-ts", "-dev"} & set(made(None).argv)
    assert set(made(None).env) == {"LLAMA_SERVER_ROUTER_PORT"}


@pytest.mark.parametrize("args", [("-ts", "1,1"), ("-sm", "row"), ("--main-gpu", "1"), ("--device", "CUDA0")])
def test_d2_whoever_says_something_of_devices_decides_it_all(args):
    argv = made(replace(TWO, free=True), args=args).argv
    assert sum(word in {"-ts", "-sm", "-dev"} for word in argv) == sum(word in {"-ts", "-sm"} for word in args)
    assert made(TWO, args=args).argv.count("-ts") == args.count("-ts")
    assert "CUDA_VISIBLE_DEVICES" not in made(replace(TWO, free=True), args=args).env


@pytest.mark.parametrize(
    ("args", "wish"),
    [
        ((), Wish()),
        (("-ngl", "0"), Wish(ram=True)),
        (("--n-gpu-layers", "0"), Wish(ram=True)),
        (("-ngl", "20"), Wish()),
        (("--device", "none"), Wish(ram=True)),
        (("-dev", "CUDA1,CUDA0"), Wish(gpus=(1, 0))),
        (("-dev", "CUDA1,CUDA0", "-ts", "3,1"), Wish(gpus=(1, 0), shares=(3.0, 1.0))),
        (("-dev", "Vulkan1"), Wish()),
        (("-sm", "none"), Wish(gpus=(0,))),
        (("-sm", "none", "-mg", "1"), Wish(gpus=(1,))),
        (("-mg", "1"), Wish(everywhere=True)),
        (("-sm", "row"), Wish(everywhere=True)),
        (("-ts", "3,1"), Wish(shares=(3.0, 1.0))),
        (("-ts", "0/1"), Wish(shares=(0.0, 1.0))),
        (("-ts", "x"), Wish(everywhere=True)),
    ],
)
def test_d2_what_the_users_arguments_say_of_its_place(args, wish):
    assert ENGINE.wish(model(args=args)) == wish


def test_d1_each_gpu_has_its_part_of_weights_and_cache_and_buffers_of_its_own():
    asked, facts = model(context=8192, slots=1), llama_8b()
    plan = layout.layout(asked, facts)
    whole, buffers, layer = layout.footprint(plan, facts), layout.compute(plan, facts), facts.weights // 32
    first, second = ENGINE.split(asked, facts, (16 * GIB, 8 * GIB))
    assert first == (whole - buffers) * 2 // 3 + buffers + layer
    assert first + second == pytest.approx(whole + buffers + 2 * layer, abs=2)
    assert ENGINE.split(asked, None, (1, 1)) is None
