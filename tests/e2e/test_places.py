"""Engines are told which GPUs they have (D2): two GPUs of a stand-in reader, engines that write down what they get."""

from __future__ import annotations

import pytest

from roundhouse.app.house import House
from roundhouse.config.load import parse
from roundhouse.core.model import is_seat
from roundhouse.ports import Gpu, Reading
from roundhouse.runtime import devices
from tests.real.subject import write_model
from tests.support.fake_python import Doubled, make_python
from tests.support.house import Scripted, inside

GIB = 2**30
SIZES = {"gpu0": 16 * GIB, "gpu1": 8 * GIB, "ram": 64 * GIB}
GPUS = {"gpu0": Gpu("GPU-aaaaaaaa", "nvidia"), "gpu1": Gpu("GPU-bbbbbbbb", "nvidia")}


class TwoGpus:
    """Reads a machine that is not there, with nothing used."""

    async def read(self, trees):
        return Reading(SIZES, dict.fromkeys(SIZES, 0), {instance: {} for instance in trees}, gpus=GPUS)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(devices, "combine", lambda _readers: TwoGpus())


def vllm(place, name, memory, **said):
    return Doubled(
        place.folder, name, "vllm", {"path": str(write_model(place.folder / name)), "memory": memory, **said}
    )


async def test_d2_each_engine_sees_the_gpus_of_its_place(place, two_gpus):
    python = make_python(place.folder / "python", "vllm")
    models = [
        vllm(place, "fits", "10GiB"),
        vllm(place, "wide", "21GiB"),
        vllm(place, "second", "4GiB", devices=["gpu1"]),
        vllm(place, "ram", "4GiB", devices=["ram"]),
        Scripted(place.folder, "own", devices=["gpu1"], memory="1GiB"),
        Scripted(place.folder, "silent", memory="1GiB"),
    ]
    place.write(models, devices={}, engines={"vllm": {"python": str(python)}})
    told, words, claimed = {}, {}, {}
    async with inside(place) as house:
        for model in models:
            await house.load(model.name)
            (start,) = model.notes("start")
            told[model.name] = start["env"].get("CUDA_VISIBLE_DEVICES"), start["env"].get("CUDA_DEVICE_ORDER")
            words[model.name] = start.get("argv", [])
            instance = house.supervisor.fleet.models[model.name].instance
            claimed[model.name] = {d: size // GIB for d, size in instance.claim.items() if not is_seat(d)}
    assert told == {
        "fits": ("0", "PCI_BUS_ID"),
        "wide": ("0,1", "PCI_BUS_ID"),
        "second": ("1", "PCI_BUS_ID"),
        "ram": ("", None),
        "own": ("1", "PCI_BUS_ID"),
        "silent": (None, None),
    }
    assert claimed["wide"] == {"gpu0": 14, "gpu1": 7}
    assert claimed["second"] == {"gpu1": 4}
    assert words["wide"][words["wide"].index("--pipeline-parallel-size") + 1] == "2"  # one head can't be divided
    assert "--tensor-parallel-size" not in words["fits"]


async def test_e1_an_engine_that_is_taken_over_is_known_to_be_where_it_is(place, two_gpus):
    engine = Scripted(place.folder, "own", devices=["gpu1"], memory="1GiB")
    place.write([engine], devices={}, shutdown={"engines": "leave"})
    async with House(parse(place.file.read_text(), place.file, place.environ), place.environ) as house:
        await house.load("own")
    place.write([Scripted(place.folder, "own", devices=["gpu1"], memory="2GiB")], devices={})
    async with inside(place) as house:
        (life,) = house.effects.lives.values()
        assert life.claim == {"gpu1": 2 * GIB}
        assert [gpu.uuid for gpu in life.place.gpus] == ["GPU-bbbbbbbb"]
    assert engine.starts == 1
