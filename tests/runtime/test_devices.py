from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from roundhouse.runtime.devices import NvmlReader, RamReader, combine, detect

MIB = 1024**2
GIB = 1024**3
PAGE = os.sysconf("SC_PAGE_SIZE")


class Machine:
    """A /proc and a /sys/fs/cgroup made of files."""

    def __init__(self, folder) -> None:
        self.proc = folder / "proc"
        self.cgroups = folder / "cgroup"
        self.write(self.proc / "meminfo", f"MemTotal: {16 * MIB} kB\nMemFree: 1 kB\nMemAvailable: {12 * MIB} kB\n")
        self.write(self.proc / "self/cgroup", "0::/\n")

    def write(self, path, text) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def process(self, pid, parent, name, rss, pss=None, file=0) -> None:
        fields = ["S", str(parent), *["0"] * 19, str(rss // PAGE), "0"]
        self.write(self.proc / f"{pid}/stat", f"{pid} ({name}) {' '.join(fields)}\n")
        if pss is not None:
            rollup = f"00-ff ---p 00 00:00 0 [rollup]\nRss: 1 kB\nPss: {pss // 1024} kB\nPss_File: {file // 1024} kB\n"
            self.write(self.proc / f"{pid}/smaps_rollup", rollup)

    def ram(self) -> RamReader:
        return RamReader(self.proc, self.cgroups)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


async def test_ram_is_what_the_kernel_could_give(machine):
    reading = await machine.ram().read({})
    assert reading.total == {"ram": 16 * GIB}
    assert reading.used == {"ram": 4 * GIB}


async def test_d1_ram_of_an_instance_is_the_share_of_its_whole_tree(machine):
    machine.process(10, 1, "keeper", 100 * MIB, pss=20 * MIB)
    machine.process(11, 10, "llama-server", 900 * MIB, pss=800 * MIB)
    machine.process(12, 11, "worker", 300 * MIB)  # not ours to look into: its RSS
    machine.process(13, 1, "other", 500 * MIB, pss=500 * MIB)
    reading = await machine.ram().read({7: 10, 8: 999})
    assert reading.ours == {7: {"ram": 1120 * MIB}, 8: {"ram": 0}}


async def test_d1_weights_that_an_engine_maps_are_used_so_that_others_are_not_underrated(machine):
    """2 GiB of anonymous memory are in the kernel's 4 GiB already, 6 GiB of mapped weights are not."""
    machine.process(10, 1, "llama-server", 9 * GIB, pss=8 * GIB, file=6 * GIB)
    reading = await machine.ram().read({1: 10})
    assert reading.used["ram"] - reading.ours[1]["ram"] == 2 * GIB


async def test_d2_holders_are_the_three_largest_foreign_processes(machine):
    machine.process(10, 1, "llama-server", 9 * GIB, pss=9 * GIB)
    for pid, name, size in (
        (20, "small", MIB),
        (21, "Web (Content) 1", 3 * GIB),
        (22, "java", 2 * GIB),
        (23, "db", 2 * GIB - 7 * PAGE),
    ):
        machine.process(pid, 1, name, size)
    machine.process(os.getpid(), 1, "roundhouse", 5 * GIB)
    reading = await machine.ram().read({1: 10})
    assert reading.holders["ram"] == (
        "Web (Content) 1 (pid 21, 3.0 GiB)",
        "java (pid 22, 2.0 GiB)",
        "db (pid 23, 2.0 GiB)",
    )


async def test_process_that_ends_during_the_reading_is_left_out(machine):
    (machine.proc / "30").mkdir()
    assert (await machine.ram().read({1: 30})).ours == {1: {"ram": 0}}


async def test_limit_of_a_group_above_ours_counts_version_2(machine):
    machine.write(machine.proc / "self/cgroup", "0::/box/inner\n")
    machine.write(machine.cgroups / "box/memory.max", f"{8 * GIB}\n")
    machine.write(machine.cgroups / "box/memory.current", f"{5 * GIB}\n")
    machine.write(machine.cgroups / "box/memory.stat", f"anon {GIB}\nfile {4 * GIB}\nshmem {GIB}\n")
    machine.write(machine.cgroups / "box/inner/memory.max", "max\n")
    machine.write(machine.cgroups / "box/inner/memory.current", "1\n")
    machine.write(machine.cgroups / "box/inner/memory.stat", "file 0\n")
    reading = await machine.ram().read({})
    assert reading.total == {"ram": 8 * GIB}
    assert reading.used == {"ram": 2 * GIB}


async def test_limit_of_our_group_counts_version_1(machine):
    machine.write(machine.proc / "self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n")
    folder = machine.cgroups / "memory/docker/abc"
    machine.write(folder / "memory.limit_in_bytes", f"{2 * GIB}\n")
    machine.write(folder / "memory.usage_in_bytes", f"{GIB}\n")
    machine.write(folder / "memory.stat", f"cache 5\ntotal_cache {GIB // 2}\ntotal_shmem 0\n")
    reading = await machine.ram().read({})
    assert reading.total == {"ram": 2 * GIB}
    assert reading.used == {"ram": GIB // 2}


async def test_limit_larger_than_the_machine_is_none(machine):
    machine.write(machine.proc / "self/cgroup", "4:memory:/\n")
    folder = machine.cgroups / "memory"
    machine.write(folder / "memory.limit_in_bytes", "9223372036854771712\n")
    machine.write(folder / "memory.usage_in_bytes", f"{15 * GIB}\n")
    machine.write(folder / "memory.stat", "total_cache 0\n")
    assert (await machine.ram().read({})).used == {"ram": 4 * GIB}


async def test_machine_that_has_less_than_the_limit_leaves(machine):
    """12 GiB are available, of which the group may take 15: the machine decides."""
    machine.write(machine.proc / "self/cgroup", "0::/box\n")
    machine.write(machine.cgroups / "box/memory.max", f"{15 * GIB}\n")
    machine.write(machine.cgroups / "box/memory.current", "0\n")
    machine.write(machine.cgroups / "box/memory.stat", "file 0\n")
    reading = await machine.ram().read({})
    assert reading.total["ram"] - reading.used["ram"] == 12 * GIB


async def test_real_machine_and_a_real_tree():
    """A child of a child that holds 64 MiB."""
    holder = "x = bytearray(b'x') * (64 << 20); print('ready', flush=True); import sys; sys.stdin.read()"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    with subprocess.Popen([sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        assert root.stdin is not None
        assert await asyncio.to_thread(root.stdout.readline) == b"ready\n"
        reading = await RamReader().read({1: root.pid})
        root.stdin.close()
        root.wait(10)
    assert reading.ours[1]["ram"] > 64 * MIB
    assert 0 < reading.used["ram"] < reading.total["ram"]


class NVMLError(Exception):
    pass


class FakeNvml(ModuleType):
    """nvidia-ml-py as far as it is asked. Two cards whose index is not their PCI order, the third has no memory of its own."""

    NVMLError = NVMLError

    def __init__(self, *, driver: bool = True) -> None:
        super().__init__("pynvml")
        self.driver = driver
        self.lost: set[int] = set()
        self.graphics = True

    def nvmlInit(self):
        if not self.driver:
            raise NVMLError

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetPciInfo(self, handle):
        return SimpleNamespace(busId=["00000000:81:00.0", b"00000000:01:00.0", "00000000:C1:00.0"][handle])

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle):
        if handle == 2 or handle in self.lost:
            raise NVMLError
        return SimpleNamespace(total=24 * GIB, used=(handle + 1) * 6 * GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        rows: dict[int, list[tuple[int, int | None]]] = {
            0: [(11, 4 * GIB), (21, GIB)],
            1: [(12, 2 * GIB), (99, None), (22, 3 * GIB)],
        }
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in rows[handle]]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        if not self.graphics:
            raise NVMLError
        return [SimpleNamespace(pid=21, usedGpuMemory=GIB)] if handle == 0 else []


@pytest.fixture
def nvml(monkeypatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def cards(machine: Machine) -> Machine:
    machine.process(10, 1, "keeper", MIB)
    machine.process(11, 10, "llama-server", MIB)
    machine.process(12, 11, "worker", MIB)
    machine.process(21, 1, "Xorg", MIB)
    machine.process(22, 1, "blender", MIB)
    return machine


def reader_of(machine: Machine) -> NvmlReader:
    reader = NvmlReader.find(machine.proc)
    assert reader is not None
    return reader


async def test_d2_gpus_are_named_in_pci_order(nvml, cards):
    reader = reader_of(cards)
    assert [(gpu.id, gpu.uuid) for gpu in reader.gpus] == [("gpu0", "GPU-1"), ("gpu1", "GPU-0")]
    reading = await reader.read({})
    assert reading.total == {"gpu0": 24 * GIB, "gpu1": 24 * GIB}
    assert reading.used == {"gpu0": 12 * GIB, "gpu1": 6 * GIB}


@pytest.mark.parametrize("graphics", [True, False])
async def test_d1_gpu_memory_of_an_instance_is_that_of_its_tree(nvml, cards, graphics):
    nvml.graphics = graphics
    reading = await reader_of(cards).read({5: 10})
    assert reading.ours == {5: {"gpu0": 2 * GIB, "gpu1": 4 * GIB}}
    assert reading.holders == {"gpu0": ("blender (pid 22, 3.0 GiB)",), "gpu1": ("Xorg (pid 21, 1.0 GiB)",)}


async def test_gpu_that_is_lost_is_left_out(nvml, cards):
    reader = reader_of(cards)
    nvml.lost.add(1)
    reading = await reader.read({5: 10})
    assert reading.total == {"gpu1": 24 * GIB}
    assert reading.ours == {5: {"gpu1": 4 * GIB}}


def test_machine_without_driver_has_ram_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(driver=False))
    assert [type(reader) for reader in detect()] == [RamReader]


def test_machine_without_the_library_has_ram_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert [type(reader) for reader in detect()] == [RamReader]


def test_machine_with_gpus_has_both(nvml):
    assert [type(reader) for reader in detect()] == [RamReader, NvmlReader]


async def test_combined_reading_has_every_device(nvml, cards):
    reading = await combine([cards.ram(), reader_of(cards)]).read({5: 10})
    assert set(reading.total) == set(reading.used) == set(reading.holders) == {"ram", "gpu0", "gpu1"}
    assert reading.ours == {5: {"ram": 3 * MIB, "gpu0": 2 * GIB, "gpu1": 4 * GIB}}
