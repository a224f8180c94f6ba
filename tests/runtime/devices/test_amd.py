"""rocm-smi's answers are of ROCm 5 and 6, as people show them in issues and tests; the machine has no AMD GPU."""

from __future__ import annotations

import json
import stat

import pytest

from roundhouse.runtime.devices.amd import RocmSmi, parse
from roundhouse.runtime.devices.gpu import Card, Unreadable

ONE = (
    'WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status\n\n{"card0": {"Device Name": '
    '"0x744c", "Device ID": "0x744c", "Device Rev": "0xc8", "Subsystem ID": "0x5304", "GUID": "34756", "Unique ID": '
    '"0xac1b58f8c066790f", "PCI Bus": "0000:03:00.0", "VRAM Total Memory (B)": "25753026560", "VRAM Total Used Memory (B)": '
    '"24696061952"}, "system": {"PID132174": "llama-server, 1, 15053770752, 0, 0", "PID74853": "llama-server-du, 0, 0, 0, 0", '
    '"PID55": "a, b, 1, 7, 0, unknown"}}\n'
)
TWO = {
    "card0": {"GPU ID": "0x740c", "GUID": "1001", "Unique ID": "0x719d230578348e8c", "PCI Bus": "0000:C6:00.0",
              "VRAM Total Memory (B)": "68702699520", "VRAM Total Used Memory (B)": "10960896"},
    "card1": {"GPU ID": "0x740c", "GUID": "2002", "Unique ID": "N/A", "PCI Bus": "0000:C1:00.0",
              "VRAM Total Memory (B)": 68702699520, "VRAM Total Used Memory (B)": "30000000000"},
    "system": {"PID 132174": "llama-server, 2, 31923675136, 0, unknown", "PID7": "gmx_mpi, 1, UNKNOWN, UNKNOWN, UNKNOWN"},
}  # fmt: skip


def test_d1_a_card_and_its_processes(tmp_path):
    [card] = parse(ONE, tmp_path)
    assert card == Card(
        "GPU-ac1b58f8c066790f",
        "0000:03:00.0",
        25753026560,
        24696061952,
        {132174: 15053770752, 55: 7},
    )


def test_d1_a_process_on_two_gpus_is_told_apart_by_the_kernel(tmp_path):
    for pid, guid, size in ((132174, 1001, 15053770752), (132174, 2002, 16869904384), (7, 1001, 0), (7, 2002, 5)):
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / f"vram_{guid}").write_text(f"{size}\n")
    first, second = parse(json.dumps(TWO), tmp_path)
    assert (first.uuid, first.place, first.users) == ("GPU-719d230578348e8c", "0000:c6:00.0", {132174: 15053770752})
    assert (second.uuid, second.place, second.users) == ("1", "0000:c1:00.0", {132174: 16869904384, 7: 5})


def test_d1_without_the_kernels_figures_nobody_knows_on_which_of_two(tmp_path):
    first, second = parse(json.dumps(TWO), tmp_path)
    assert first.users == second.users == {132174: None, 7: None}


def test_versions_that_tell_less(tmp_path):
    """No ids, no bus, and a card of whose memory nothing is said."""
    told = {
        "card1": {"VRAM Total Memory (B)": "5"},
        "card10": {"VRAM Total Memory (B)": "6"},
        "card2": {"Card series": "x"},
    }
    cards = parse(json.dumps(told), tmp_path)
    assert [(card.uuid, card.total, card.used) for card in sorted(cards, key=lambda card: card.place)] == [
        ("1", 5, 0),
        ("10", 6, 0),
    ]


@pytest.mark.parametrize(
    "text", ["", "ERROR:root:Driver not initialized (amdgpu not found in modules)\n", "{not json", "[]"]
)
def test_a_driver_that_does_not_work(text):
    with pytest.raises(Unreadable):
        parse(text)


async def test_it_is_asked_once(tmp_path, monkeypatch):
    (tmp_path / "answer").write_text(ONE)
    program = tmp_path / "rocm-smi"
    program.write_text(
        '#!/bin/sh\n[ "$*" = "--showmeminfo vram --showbus --showuniqueid --showid --showpids --json" ] && '
        f"cat {tmp_path}/answer; exit 2\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert await RocmSmi(kfd=tmp_path).cards() == parse(ONE, tmp_path)
