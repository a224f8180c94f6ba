from __future__ import annotations

import os

import pytest

from roundhouse.ports import Gpu
from roundhouse.runtime import devices
from roundhouse.runtime.devices import combine, detect
from roundhouse.runtime.devices.gpu import SCARCE, Card, GpuReader, Unreadable
from roundhouse.runtime.devices.ram import RamReader
from tests.runtime.devices.machine import GIB, MIB, Machine

BIG = 24 * GIB


class Cards:
    """A source that gives what it is set to."""

    def __init__(self, *cards: Card, vendor: str = "nvidia") -> None:
        self.found: list[Card] | None = list(cards)
        self.vendor = vendor

    async def cards(self) -> list[Card]:
        if self.found is None:
            raise Unreadable("the driver is gone")
        return self.found


@pytest.fixture
def box(machine: Machine) -> Machine:
    machine.process(10, 1, "keeper", MIB)
    machine.process(11, 10, "llama-server", MIB)
    machine.process(12, 11, "worker", MIB)
    machine.process(21, 1, "Xorg", MIB)
    machine.process(22, 1, "blender", MIB)
    return machine


async def reader_of(box: Machine, *sources: Cards, first: int = 0) -> GpuReader:
    reader = await GpuReader.find(sources, first=first, proc=box.proc)
    assert reader is not None
    return reader


async def test_d2_gpus_are_named_in_pci_order(box):
    source = Cards(Card("GPU-b", "0000:81:00.0", BIG, 3), Card("GPU-a", "0000:01:00.0", BIG, 2))
    reading = await (await reader_of(box, source, first=2)).read({})
    assert reading.gpus == {
        "gpu2": Gpu("GPU-a", "nvidia", address="0000:01:00.0"),
        "gpu3": Gpu("GPU-b", "nvidia", address="0000:81:00.0"),
    }
    assert reading.total == {"gpu2": BIG, "gpu3": BIG}
    assert reading.used == {"gpu2": 2, "gpu3": 3}


async def test_d1_gpu_memory_of_an_instance_is_that_of_its_tree(box):
    one = Card("GPU-a", "01", BIG, 9 * GIB, {12: 2 * GIB, 22: 3 * GIB, 10: 5})
    two = Card("GPU-b", "81", BIG, 9 * GIB, {11: 4 * GIB, 21: GIB})
    reading = await (await reader_of(box, Cards(one, two))).read({5: 10, 6: 999})
    assert reading.ours == {5: {"gpu0": 2 * GIB + 5, "gpu1": 4 * GIB}, 6: {"gpu0": 0, "gpu1": 0}}
    assert reading.holders == {"gpu0": ("blender (pid 22, 3.0 GiB)",), "gpu1": ("Xorg (pid 21, 1.0 GiB)",)}
    assert reading.opaque == frozenset()


@pytest.mark.parametrize(
    "users", [{}, {11: None}, {21: GIB, 4711: GIB}], ids=["no processes", "no sizes", "pids of another namespace"]
)
async def test_d1_a_gpu_that_keeps_its_processes_to_itself_is_told_as_such(box, users):
    source = Cards(Card("GPU-a", "01", BIG, GIB, users), Card("GPU-b", "02", BIG, GIB, {21: 5}))
    reading = await (await reader_of(box, source)).read({5: 10})
    assert reading.ours == {5: {"gpu0": 0, "gpu1": 0}}
    assert reading.opaque == {"gpu0"}


async def test_d1_memory_shared_with_the_machine_is_ram(box):
    """A GPU without memory of its own: what a process takes by it is in none of its pages."""
    source = Cards(Card("GPU-a", "01", None, 0, {11: 7 * GIB, 22: GIB}), Card("GPU-b", "02", BIG, 0, {11: 2, 12: None}))
    gpus = await reader_of(box, source)
    reading = await gpus.read({5: 10, 6: 22, 7: 21})
    assert reading.total == {"gpu1": BIG}
    assert reading.ours == {5: {"ram": 7 * GIB, "gpu1": 2}, 6: {"ram": GIB, "gpu1": 0}, 7: {"gpu1": 0}}
    assert set(reading.gpus) == {"gpu1"}
    both = await combine([box.ram(), gpus]).read({5: 10})
    assert both.ours == {5: {"ram": 7 * GIB + 3 * MIB, "gpu1": 2}}
    assert set(both.total) == set(both.used) == set(both.holders) == {"ram", "gpu1"}
    assert both.gpus == {"gpu1": Gpu("GPU-b", "nvidia", address="02")}
    assert both.opaque == {"gpu1"}


async def test_a_processors_own_graphics_are_no_place_for_models(box):
    source = Cards(Card("0", "01", 512 * MIB), Card("1", "02", SCARCE))
    assert set((await (await reader_of(box, source)).read({})).total) == {"gpu0"}
    assert (await (await reader_of(box, source)).read({})).gpus["gpu0"].uuid == "1"


async def test_a_gpu_that_is_lost_or_new_is_left_out(box):
    source = Cards(Card("GPU-a", "01", BIG, 1), Card("GPU-b", "02", BIG, 2))
    reader = await reader_of(box, source)
    source.found = [Card("GPU-b", "02", BIG, 2), Card("GPU-new", "00", BIG, 3)]
    assert (await reader.read({})).used == {"gpu1": 2}


async def test_the_next_source_answers_where_the_first_fails(box):
    first, second = Cards(), Cards(Card("GPU-a", "01", BIG, 4), vendor="other")
    first.found = None
    reader = await reader_of(box, first, second)
    assert (await reader.read({})).gpus == {"gpu0": Gpu("GPU-a", "other", address="01")}
    first.found = [Card("GPU-a", "01", BIG, 5)]
    assert (await reader.read({})).used == {"gpu0": 5}
    first.found = second.found = None
    reading = await reader.read({5: 10})
    assert (reading.total, reading.used, reading.ours) == ({}, {}, {})


async def test_no_gpus_no_reader():
    broken = Cards()
    broken.found = None
    assert await GpuReader.find([]) is None
    assert await GpuReader.find([broken]) is None
    assert await GpuReader.find([Cards(), Cards(Card("GPU-a", "01", BIG))]) is None


@pytest.mark.parametrize(
    ("nvidia", "amd", "names"),
    [(0, 0, ["ram"]), (2, 0, ["ram", "gpu0", "gpu1"]), (1, 1, ["ram", "gpu0", "gpu1"]), (0, 1, ["ram", "gpu0"])],
)
async def test_what_a_machine_has(monkeypatch, nvidia, amd, names):
    """AMD's cards come after NVIDIA's."""
    broken, programs = Cards(), Cards(*[Card(f"GPU-{n}", str(n), BIG) for n in range(nvidia)])
    broken.found = None
    others = Cards(*[Card(f"A-{n}", str(n), BIG) for n in range(amd)], vendor="amd")
    for name, source in (("Nvml", broken), ("NvidiaSmi", programs), ("RocmSmi", others)):
        monkeypatch.setattr(devices, name, lambda source=source: source)
    readers = await detect()
    assert isinstance(readers[0], RamReader)
    reading = await combine(readers).read({1: os.getpid()})
    assert list(reading.total) == names
    assert [gpu.vendor for gpu in reading.gpus.values()] == ["nvidia"] * nvidia + ["amd"] * amd
