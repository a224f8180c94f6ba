from __future__ import annotations

from roundhouse.app.places import Box, place_of
from roundhouse.ports import Gpu
from tests.app.twogpus import RAM_ONLY, A, B, box
from tests.engines.models import GIB, model


def test_d2_a_claim_becomes_gpus_by_name_in_the_users_order():
    place = place_of(model(devices=("gpu1", "gpu0")), {"gpu0": 9, "gpu1": 6, "port:1": 1}, box())
    assert (place.gpus, place.sizes, place.machine) == ((B, A), (6, 9), (A, B))
    assert place.shares == (16.0 * GIB, 24.0 * GIB)
    assert not place.free


def test_d2_proportions_are_those_of_the_devices_not_of_what_was_measured():
    place = place_of(model(), {"gpu0": 20 * GIB, "gpu1": 2 * GIB}, box())
    assert place.shares == (24.0 * GIB, 16.0 * GIB)
    place = place_of(model(memory={"gpu0": "1GiB", "gpu1": "3GiB"}), {"gpu0": GIB, "gpu1": 3 * GIB}, box())
    assert place.shares == (1.0 * GIB, 3.0 * GIB)


def test_d2_ram_beside_gpus_is_a_place_without_any():
    assert place_of(model(), {"ram": 1}, box()).gpus == ()
    assert place_of(model(), {"gpu1": 1, "ram": 1}, box()).gpus == (B,)
    assert place_of(model(), {"ram": 1}, RAM_ONLY) is None


def test_d2_no_gpu_is_hidden_from_arguments_that_count_them():
    assert place_of(model(args=("-mg", "1")), {"gpu0": 1, "gpu1": 1}, box()).free
    place = place_of(model(args=("-sm", "none", "-mg", "1"), devices=("gpu1", "gpu0")), {"gpu0": 1}, box())
    assert (place.free, place.gpus) == (False, (B, A))


def test_a_device_that_only_the_configuration_knows():
    declared = Box({"ram": GIB, "gpu1": GIB, "igpu": GIB})
    assert place_of(model(), {"gpu1": 1}, declared).gpus == (Gpu(index=1),)
    assert place_of(model(), {"igpu": 1}, declared) is None


def test_nothing_is_said_to_a_users_own_command_without_devices():
    command = model(path=None, command="serve", engine="openai")
    assert place_of(command, {"gpu0": 1}, box()) is None
    assert place_of(command.model_copy(update={"devices": ("gpu0",)}), {"gpu0": 1}, box()).gpus == (A,)
