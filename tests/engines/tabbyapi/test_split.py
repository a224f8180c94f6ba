from __future__ import annotations

import json
from dataclasses import replace

import pytest

from roundhouse.engines.tabbyapi import TabbyAPI, memory, settings, split
from roundhouse.engines.tabbyapi.settings import Card
from roundhouse.ports import Place, Wish
from tests.engines.models import GPUS, NONE, ONE, TWO
from tests.engines.tabbyapi.samples import facts, tabby_model


def asked(place, **said):
    return json.loads(settings.load_request(tabby_model(**said), facts(), place))


def test_d2_a_zero_keeps_the_other_gpus_free_and_the_last_one_has_some_to_spare():
    assert asked(ONE)["gpu_split"] == [0, 10.0]
    assert asked(TWO)["gpu_split"] == [16.0, 0, 10.0]
    assert asked(TWO)["gpu_split_auto"] is False


def test_d2_in_a_config_file_it_stands_in_the_section_of_the_model():
    assert settings.sections(tabby_model(), facts(), ONE)["model"]["gpu_split"] == [0, 10.0]


@pytest.mark.parametrize("place", [None, NONE, replace(ONE, free=True), Place(GPUS[:1], (1,), (1.0,), GPUS[:1])])
def test_nothing_is_said_where_there_is_no_choice(place):
    assert "gpu_split" not in asked(place)


@pytest.mark.parametrize(
    "options", [{"gpu_split": [9, 9]}, {"gpu_split_auto": True}, {"tensor_parallel": True}, {"autosplit_reserve": [1]}]
)
def test_d2_the_users_own_options_win(options):
    found = asked(ONE, options=options)
    assert {key: found[key] for key in found if key in split.OWN} == options


def test_d2_gpus_that_the_user_hides_are_not_counted_again():
    hidden = tabby_model().model_copy(update={"env": {"CUDA_VISIBLE_DEVICES": "1"}})
    assert split.options(hidden, ONE) == {}


def test_d2_a_process_counts_gpus_as_we_do():
    assert split.environment(ONE) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert split.environment(None) == {}


def test_a_card_does_not_tell_where_a_model_is():
    want = settings.wanted(tabby_model(max_seq_len=256), facts())
    card = Card(settings.tabby_of(tabby_model()).model_name, 256, 256, "FP16")
    assert settings.proven(card, tabby_model(max_seq_len=256), want)
    assert not settings.proven(card, tabby_model(max_seq_len=256), want, ONE)


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        ({}, Wish()),
        ({"gpu_split": [0, 20.5]}, Wish(gpus=(1,), shares=(20.5,))),
        ({"gpu_split": []}, Wish()),
        ({"gpu_split_auto": True}, Wish(everywhere=True)),
        ({"gpu_split_auto": False}, Wish()),
        ({"tensor_parallel": True}, Wish(everywhere=True)),
    ],
)
def test_d2_what_the_users_options_say_of_its_place(options, wish):
    assert split.wish(tabby_model(options=options)) == wish


def test_d1_each_gpu_has_its_part_and_the_programs_own_memory():
    whole = memory.footprint(tabby_model(), facts())
    first, second = TabbyAPI().split(tabby_model(), facts(), (30, 10))
    assert first == (whole - memory.PROGRAM) * 3 // 4 + memory.PROGRAM
    assert first + second == pytest.approx(whole + memory.PROGRAM, abs=2)
    assert TabbyAPI().split(tabby_model(), None, (1, 1)) is None
