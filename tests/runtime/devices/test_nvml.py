"""The reader against a real shared object, loaded by NVIDIA's own Python package in a process of its own.

The dynamic linker looks at LD_LIBRARY_PATH when a process starts, so the reading is done in one that the test talks to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.runtime.devices.machine import GIB
from tests.support.fake_nvml import FakeGpus, fake_gpus

BIG = 24 * GIB
READS = """
import asyncio, json, sys
from roundhouse.runtime.devices.gpu import GpuReader, Unreadable
from roundhouse.runtime.devices.nvidia import NvidiaSmi
from roundhouse.runtime.devices.nvml import Nvml

async def main():
    source = Nvml(limit=0.5)
    reader = await GpuReader.find([source, NvidiaSmi()])
    for line in sys.stdin:
        trees = {int(key): pid for key, pid in json.loads(line).items()}
        if reader is None:
            print("null", flush=True)
            continue
        found = await reader.read(trees)
        told = {name: dict(getattr(found, name)) for name in ("total", "used", "ours", "holders")}
        told["uuids"] = {name: gpu.uuid for name, gpu in found.gpus.items()}
        told["opaque"] = sorted(found.opaque)
        print(json.dumps(told), flush=True)

asyncio.run(main())
"""


class Reading:
    """A process that finds the GPUs when it starts, and reads them when it is asked."""

    def __init__(self, gpus: FakeGpus, path: str) -> None:
        environ = os.environ | gpus.environ | {"PATH": path}
        words = [sys.executable, "-c", READS]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True)

    def __call__(self, **trees: int) -> dict:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        told = {name.removeprefix("i"): pid for name, pid in trees.items()}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def gpus(tmp_path_factory) -> FakeGpus:
    return fake_gpus(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def start(gpus, tmp_path):
    """Starts a process that reads; `nvidia-smi` says what a file of that name in the test's folder says."""
    started = []
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f'#!/bin/sh\ncase "$1" in --query-gpu=*) cat {tmp_path}/told;; esac\n')
    smi.chmod(0o755)

    def begin() -> Reading:
        started.append(Reading(gpus, f"{tmp_path}:/usr/bin:/bin"))
        return started[-1]

    yield begin
    for reading in started:
        reading.process.kill()
        reading.process.communicate()


@pytest.fixture
def child():
    """A process that holds something."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_d1_d2_cards_in_pci_order_and_what_our_tree_holds(gpus, start, child):
    gpus.says(
        f"gpu GPU-b 00000000:81:00.0 {BIG} 100",
        f"gpu GPU-a 00000000:01:00.0 {2 * BIG} 0",
        f"process GPU-b {child.pid} {4 * GIB}",
        f"graphics GPU-b {child.pid} {4 * GIB}",
        f"graphics GPU-b {os.getpid()} {GIB}",
        f"process GPU-a {child.pid} {GIB}",
    )
    read = start()
    told = read(i7=child.pid)
    assert told["uuids"] == {"gpu0": "GPU-a", "gpu1": "GPU-b"}
    assert told["total"] == {"gpu0": 2 * BIG, "gpu1": BIG}
    assert told["ours"] == {"7": {"gpu0": GIB, "gpu1": 4 * GIB}}
    [(holder)] = told["holders"]["gpu1"]
    assert holder.endswith(f"(pid {os.getpid()}, 1.0 GiB)")
    assert told["opaque"] == []


def test_d1_a_driver_that_keeps_sizes_to_itself(gpus, start, child):
    gpus.says(f"gpu GPU-a 00000000:01:00.0 {BIG} {3 * GIB}", f"process GPU-a {child.pid} -")
    told = start()(i1=child.pid)
    assert told["used"] == {"gpu0": 3 * GIB}
    assert told["ours"] == {"1": {"gpu0": 0}}
    assert told["opaque"] == ["gpu0"]


def test_d1_slices_of_a_divided_gpu_are_devices(gpus, start, child):
    gpus.says(
        f"gpu GPU-a 00000000:01:00.0 {BIG} 0",
        f"gpu GPU-b 00000000:02:00.0 {BIG} 0",
        f"mig MIG-1 GPU-a {10 * GIB} 7",
        f"mig MIG-2 GPU-a {5 * GIB} 0",
        f"process MIG-2 {child.pid} {GIB}",
    )
    told = start()(i1=child.pid)
    assert told["uuids"] == {"gpu0": "MIG-1", "gpu1": "MIG-2", "gpu2": "GPU-b"}
    assert told["total"] == {"gpu0": 10 * GIB, "gpu1": 5 * GIB, "gpu2": BIG}
    assert told["ours"] == {"1": {"gpu0": 0, "gpu1": GIB, "gpu2": 0}}


def test_d1_unified_memory_is_the_machines(gpus, start, child):
    gpus.says("gpu GPU-a 0000000F:01:00.0 shared 0", f"process GPU-a {child.pid} {9 * GIB}")
    told = start()(i1=child.pid)
    assert (told["total"], told["uuids"]) == ({}, {})
    assert told["ours"] == {"1": {"ram": 9 * GIB}}


def test_a_gpu_that_falls_off_the_bus_is_left_out_and_comes_back(gpus, start):
    cards = [f"gpu GPU-a 00000000:01:00.0 {BIG} 1", f"gpu GPU-b 00000000:02:00.0 {BIG} 2"]
    gpus.says(*cards)
    read = start()
    assert read()["used"] == {"gpu0": 1, "gpu1": 2}
    gpus.says(*cards, "lost GPU-a")
    assert read()["used"] == {"gpu1": 2}
    gpus.says(*cards)
    assert read()["used"] == {"gpu0": 1, "gpu1": 2}


@pytest.mark.parametrize("trouble", ["fail 999", "hang", "lost GPU-a"])
def test_nvidia_smi_takes_over_where_nvml_fails_or_hangs(gpus, start, tmp_path, trouble):
    card = f"gpu GPU-a 00000000:01:00.0 {BIG} 1"
    gpus.says(card)
    read = start()
    assert read()["used"] == {"gpu0": 1}
    gpus.says(card, trouble)
    assert read() == {"total": {}, "used": {}, "ours": {}, "holders": {}, "uuids": {}, "opaque": []}
    (tmp_path / "told").write_text("00000000:01:00.0, GPU-a, 24576, 5, [N/A]\n")
    for _ in range(2):
        assert read()["used"] == {"gpu0": 5 * 1024**2}


def test_nvml_that_never_worked_is_no_harm(gpus, start, tmp_path):
    gpus.says("fail 9")
    assert start()() is None
    (tmp_path / "told").write_text("00000000:01:00.0, GPU-a, 24576, 5, [N/A]\n")
    assert start()()["total"] == {"gpu0": BIG}
