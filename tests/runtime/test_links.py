"""How fast weights are read here: measured once, kept, and measured again when that is old."""

from __future__ import annotations

import os

import pytest

from roundhouse.ports import Gpu
from roundhouse.runtime import links
from roundhouse.runtime.links import Links, Rates, measure


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "weights"
    made.write_bytes(os.urandom(links.LEAST_BYTES + 123))
    return made


def test_both_links_are_measured(file):
    rates = measure(file, 7.0)
    assert rates.disk > 0
    assert rates.cache > 0
    assert rates.at == 7.0


def test_a_small_file_says_nothing(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 1000)
    assert measure(tmp_path / "small", 7.0) == Rates(0.0, 0.0, 7.0)


def test_it_is_measured_once_and_kept_for_a_month(file, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(links, "measure", lambda path, at: asked.append(path) or Rates(1.0, 2.0, at))
    now = [1000.0]
    kept = tmp_path / "links.json"
    known = Links(kept, wall=lambda: now[0])
    assert known.of(file) == Rates(1.0, 2.0, 1000.0)
    assert known.of(file).at == 1000.0
    assert Links(kept, wall=lambda: now[0]).of(file).at == 1000.0
    assert len(asked) == 1
    now[0] += links.FRESH + 1
    assert Links(kept, wall=lambda: now[0]).of(file).at == now[0]


@pytest.mark.parametrize("text", ["", "[]", '{"1": 7}', '{"1": {"disk": 1}}'])
def test_a_file_that_says_something_else_is_as_none(file, tmp_path, text):
    (tmp_path / "links.json").write_text(text)
    assert Links(tmp_path / "links.json").of(file).cache > 0


def test_a_file_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Links(tmp_path / "links.json").of(tmp_path / "gone")


def link(folder, speed, lanes):
    """A part of the bus, as the kernel tells of it."""
    folder.mkdir(parents=True)
    (folder / "max_link_speed").write_text(f"{speed}\n")
    (folder / "max_link_width").write_text(f"{lanes}\n")


@pytest.fixture
def pci(tmp_path):
    """A GPU with 16 lanes of the fourth generation behind a bridge of its own, and one whose slot has four lanes."""
    tree, listed = tmp_path / "pci0000:00", tmp_path / "devices"
    listed.mkdir()
    for number, lanes in (("01", 16), ("02", 4)):
        link(tree / f"0000:00:{number}.0", "16.0 GT/s PCIe", lanes)
        link(tree / f"0000:00:{number}.0" / f"0000:{number}:00.0", "16.0 GT/s PCIe", 16)
        (listed / f"0000:{number}:00.0").symlink_to(tree / f"0000:00:{number}.0" / f"0000:{number}:00.0")
    return listed


@pytest.mark.parametrize(
    ("address", "lanes"),
    [
        ("0000:01:00.0", 16),
        ("00000000:01:00.0", 16),  # NVML's eight digits
        ("0000:02:00.0", 4),  # the slot in front is the narrower
        ("0000:03:00.0", 0),
        ("", 0),
        ("..", 0),
    ],
)
def test_the_way_to_a_gpu_is_as_wide_as_its_narrowest_link(pci, address, lanes):
    assert links.bus(address, pci) == lanes * 1.969e9


def test_an_unknown_speed_says_nothing(pci):
    (pci / "0000:01:00.0" / "max_link_speed").write_text("Unknown\n")
    (pci / "0000:01:00.0").resolve().parent.joinpath("max_link_width").write_text("x\n")
    assert links.bus("0000:01:00.0", pci) == 0.0


def test_gpus_are_filled_side_by_side(pci, tmp_path, monkeypatch):
    monkeypatch.setattr(links.bus, "__defaults__", (pci,))
    slices = {f"slice{n}": Gpu(address=f"00000000:01:00.0/0{n}") for n in range(2)}
    gpus = {"gpu0": Gpu(address="0000:01:00.0"), "gpu1": Gpu(address="0000:02:00.0"), "gpu2": Gpu(), **slices}
    known = Links(tmp_path / "links.json", gpus)
    assert known.to(["gpu0", "gpu1", "port:8085"]) == 20 * 1.969e9
    assert known.to(["gpu0", "gpu2"]) == 0.0
    assert known.to(["slice0", "slice1"]) == 16 * 1.969e9
    assert known.to(["ram"]) == 0.0
