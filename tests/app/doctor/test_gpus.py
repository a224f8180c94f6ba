"""GPUs as a stand-in of nvidia-smi tells them: the shapes are nvidia-smi's own, the machine has none."""

from __future__ import annotations

import pytest

from roundhouse.app.doctor import gpus
from roundhouse.app.doctor.gpus import check, find, parse
from tests.app.doctor.conftest import WAITS, told

ROWS = """00000000:81:00.0, GPU-b, NVIDIA GeForce RTX 3090, 575.57, 8.6, 24576, 300
00000000:01:00.0, GPU-a, NVIDIA RTX PRO 6000 Blackwell, 575.57, 12.0, 97887, {used}
"""
SMI = """case "$1" in
--query-gpu=*) cat {folder}/gpus;;
--query-compute-apps=*) cat {folder}/apps;;
esac
"""


@pytest.fixture
def smi(box):
    """Makes the box one with GPUs."""

    def made(apps="", used=500):
        (box.folder / "gpus").write_text(ROWS.format(used=used))
        (box.folder / "apps").write_text(apps)
        box.program("nvidia-smi", SMI.format(folder=box.folder))
        return box

    return made


def test_g4_gpus_and_their_driver(smi):
    found = told(check(smi().visit()), "ok")
    assert found[0] == "gpu0: NVIDIA RTX PRO 6000 Blackwell, 96 GiB, driver 575.57, compute 12.0. → "
    assert found[1].startswith("gpu1: NVIDIA GeForce RTX 3090")


def test_d2_gpus_are_numbered_by_their_pci_address(smi):
    assert [(gpu.id, gpu.uuid) for gpu in find(smi().visit())] == [("gpu0", "GPU-a"), ("gpu1", "GPU-b")]


def test_g4_memory_that_others_hold_is_told_with_who(smi, box):
    process, _ = box.run(WAITS)
    ours, _ = box.run(WAITS, mark=f"{box.install}:m")
    apps = f"GPU-a, {process.pid}, 20480\nGPU-a, {ours.pid}, 40960\nGPU-b, 999999999, 100\n"
    (found,) = told(check(smi(apps).installed().visit()), "warning")[-1:]
    assert "gpu0: Programs that are not ours hold 20.0 of its 96 GiB" in found
    assert f"pid {process.pid} (" in found
    assert str(ours.pid) not in found


def test_g4_memory_in_use_that_nobody_owns_up_to(smi):
    assert "gpu0: 39.1 of its 96 GiB are in use" in told(check(smi(used=40000).visit()), "note")[0]


def test_g4_a_driver_that_does_not_match_its_library(box):
    box.program("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    (found,) = told(check(box.visit()))
    assert "version mismatch" in found
    assert "reboot" in found
    assert find(box.visit()) == []


def test_g4_memory_that_is_read_the_slow_way(smi, monkeypatch):
    monkeypatch.setattr(gpus, "find_spec", lambda _name: None)
    assert "nvidia-ml-py" in told(check(smi().visit()), "warning")[0]


def test_no_gpu_is_no_fault(box):
    (found,) = check(box.visit(environ={"PATH": str(box.bin)}))
    assert found.severity == "note"


def test_a_driver_without_its_tools(box, tmp_path):
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").touch()
    visit = box.visit(environ={"PATH": str(box.bin)})
    object.__setattr__(visit, "proc", tmp_path)
    assert told(check(visit), "warning")


def test_figures_that_are_not_told():
    (gpu,) = parse("00000000:01:00.0, GPU-a, Orin, [N/A], 8.7, [N/A], [N/A]\nNo devices were found\n")
    assert (gpu.total, gpu.used) == (0, 0)
