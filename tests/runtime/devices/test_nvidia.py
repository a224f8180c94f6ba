"""nvidia-smi's lines are of drivers 535 to 580, as people show them; the machine has none."""

from __future__ import annotations

import stat

import pytest

from roundhouse.runtime.devices.gpu import Card, Unreadable
from roundhouse.runtime.devices.nvidia import NvidiaSmi, parse
from tests.runtime.devices.machine import MIB

TWO = """\
00000000:81:00.0, GPU-5a3f1a2c-0d1b-4f7e-9b77-1c2d3e4f5a6b, 24576, 312, [N/A]
00000000:01:00.0, GPU-e18afb8d-1627-f8ff-2ba3-c05c5a8e9e67, 97887, 41000, Disabled
"""
A, B = "GPU-e18afb8d-1627-f8ff-2ba3-c05c5a8e9e67", "GPU-5a3f1a2c-0d1b-4f7e-9b77-1c2d3e4f5a6b"
APPS = f"1234, {A}, 40000\n77, {B}, [N/A]\n77, {A}, [Insufficient Permissions]\n"


def test_d1_cards_and_their_processes():
    assert parse(TWO, APPS) == [
        Card(B, "00000000:81:00.0", 24576 * MIB, 312 * MIB, {77: None}),
        Card(A, "00000000:01:00.0", 97887 * MIB, 41000 * MIB, {1234: 40000 * MIB, 77: None}),
    ]


def test_a_gpu_without_memory_of_its_own():
    told = "0000000F:01:00.0, GPU-gb10, [N/A], [N/A], [N/A]\n"
    assert parse(told, "50, GPU-gb10, 1000\n") == [Card("GPU-gb10", "0000000f:01:00.0", None, 0, {50: 1000 * MIB})]


def test_divided_and_lost_ones_are_left_out():
    told = f"00000000:01:00.0, GPU-x, 81920, 12, Enabled\n00000000:02:00.0, GPU-y, [GPU is lost], [GPU is lost], [N/A]\n{TWO}"
    assert [card.uuid for card in parse(told, "")] == [B, A]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n",
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n",
    ],
)
def test_a_driver_that_does_not_work(text):
    with pytest.raises(Unreadable):
        parse(text, "")


async def test_it_is_asked_for_both(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        f'"--query-gpu=pci.bus_id,uuid,memory.total,memory.used,mig.mode.current --format=csv,noheader,nounits") echo "{TWO}";;\n'
        f'"--query-compute-apps=pid,gpu_uuid,used_memory --format=csv,noheader,nounits") echo "{APPS}";;\nesac\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert await NvidiaSmi().cards() == parse(TWO, APPS)
