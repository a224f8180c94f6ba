from __future__ import annotations

from dataclasses import replace

import pytest

from roundhouse.engines.visible import environment, seen
from roundhouse.ports import Gpu, Place
from tests.engines.models import GPUS, NONE, ONE, TWO

NAMES = {f"gpu{gpu.index}": gpu for gpu in GPUS}
AMD = (Gpu("GPU-1111111111111111", "amd", 0), Gpu("GPU-2222222222222222", "amd", 1))


def test_d2_gpus_are_told_by_uuid_in_order_and_counted_by_pci_address():
    assert environment(ONE, {}) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-bbbbbbbb"}
    turned = replace(TWO, gpus=(GPUS[2], GPUS[0]))
    assert environment(turned, {})["CUDA_VISIBLE_DEVICES"] == "GPU-cccccccc,GPU-aaaaaaaa"


def test_d2_by_number_for_programs_that_can_read_nothing_else_and_where_no_uuid_is_known():
    assert environment(TWO, {}, numbers=True)["CUDA_VISIBLE_DEVICES"] == "0,2"
    unnamed = Place((Gpu(index=1),), (1,), (1.0,), (Gpu(index=0), Gpu(index=1)))
    assert environment(unnamed, {})["CUDA_VISIBLE_DEVICES"] == "1"


def test_d2_parts_of_gpus_have_no_numbers():
    part = Gpu("MIG-1234", "nvidia", 0)
    assert environment(Place((part,), (1,), (1.0,), (part,)), {}, numbers=True)["CUDA_VISIBLE_DEVICES"] == "MIG-1234"


def test_d2_in_ram_every_gpu_is_hidden():
    assert environment(NONE, {}) == {"CUDA_VISIBLE_DEVICES": ""}
    assert environment(Place(machine=AMD), {}) == {"HIP_VISIBLE_DEVICES": "-1"}


def test_d2_amd_gpus_are_told_as_rocm_recommends():
    place = Place(AMD[1:], (1,), (1.0,), AMD)
    assert environment(place, {}) == {"ROCR_VISIBLE_DEVICES": "GPU-2222222222222222"}
    assert environment(place, {}, numbers=True) == {"ROCR_VISIBLE_DEVICES": "GPU-2222222222222222"}
    unnamed = Place((replace(AMD[1], uuid=""),), (1,), (1.0,), AMD)
    assert environment(unnamed, {}) == {"HIP_VISIBLE_DEVICES": "1"}


def test_without_gpus_nothing_is_said():
    assert environment(None, {}) == {}
    assert environment(Place(), {}) == {}


def test_d2_where_the_user_says_it_only_the_order_is_ours():
    assert environment(replace(ONE, free=True), {}) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        assert environment(ONE, {name: "0"}) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("1", ("gpu1",)),
        ("2, 0", ("gpu2", "gpu0")),
        ("GPU-cccccccc", ("gpu2",)),
        ("GPU-c", ("gpu2",)),
        ("0,9,1", ("gpu0",)),
        ("", ()),
        ("-1", ()),
        ("MIG-1234", None),
        ("GPU-dddddddd", None),
    ],
)
def test_d2_a_users_variable_is_read_as_cuda_does(text, devices):
    assert seen({"CUDA_VISIBLE_DEVICES": text}, NAMES) == devices


def test_numbers_in_another_order_tell_nothing():
    env = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert seen(env, NAMES) is None
    assert seen(env | {"CUDA_VISIBLE_DEVICES": "GPU-b"}, NAMES) == ("gpu1",)
    assert seen({}, NAMES) is None
