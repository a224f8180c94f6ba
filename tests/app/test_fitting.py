from __future__ import annotations

import pytest

from roundhouse.app.fitting import fitting, largest_context
from roundhouse.app.places import Box
from roundhouse.app.specs import fingerprint, look
from roundhouse.core.margins import run_at
from roundhouse.engines import ENGINES
from roundhouse.observe.past import Past
from roundhouse.runtime.links import Links, Rates
from tests.app.twogpus import RAM_ONLY
from tests.engines.models import GIB, MIB, llama_8b, model
from tests.support.gguf_files import write_tiny_chat


def gpus(*sizes):
    there = {f"gpu{number}": int(size * GIB) for number, size in enumerate(sizes)}
    return Box({"ram": 64 * GIB, **there}, there)


class Known(Links):
    """A machine of round figures."""

    def __init__(self, disk=1e6, cache=1e7, bus=0.0):
        super().__init__(path=__import__("pathlib").Path("/nowhere"))
        self.rates, self.bus = Rates(disk, cache, 0.0), bus

    def of(self, _file):
        return self.rates

    def to(self, _devices):
        return self.bus


# --- the largest context ---


def needs(context, slots):
    return ENGINES["llamacpp"].footprint(model(context=context, slots=slots), llama_8b())


@pytest.mark.parametrize("slots", [1, 3])
def test_the_largest_context_fits_and_one_step_more_does_not(slots):
    size = 9 * GIB
    most = largest_context(model(), llama_8b(), gpus(9), slots)
    assert most % 256 == 0
    assert needs(most, slots) <= size < needs(most + 256, slots)


def test_it_is_never_more_than_trained_for_and_can_be_none():
    assert largest_context(model(), llama_8b(context=4000), gpus(24), 1) == 4000
    assert largest_context(model(), llama_8b(), gpus(4), 1) == 0


def test_several_gpus_hold_more_together_where_one_is_too_small():
    alone, together = (largest_context(model(), llama_8b(), gpus(*sizes), 1) for sizes in ((9,), (9, 9)))
    assert together > 1.5 * alone


@pytest.mark.parametrize("engine", ["llamacpp", "sglang", "vllm"])
def test_each_engine_is_asked_in_its_own_way(engine):
    facts = llama_8b(format="gguf" if engine == "llamacpp" else "safetensors")
    most = largest_context(model(engine=engine), facts, gpus(11), 1)
    assert 0 < most < 131072


@pytest.mark.parametrize(
    ("asked", "facts"), [(model(args=("-c", "4096")), llama_8b()), (model(), llama_8b(context=None))]
)
def test_what_is_not_ours_to_say(asked, facts):
    assert largest_context(asked, facts, gpus(9), 1) is None


# --- the whole ---


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_chat(tmp_path_factory.mktemp("models") / "tiny.gguf", "alpha")


def look_at(asked, box=RAM_ONLY, past=None, links=None):
    return fitting(asked, box, past or Past(), links or Known())


def test_a_model_that_fits(tiny):
    found = look_at(model(path=tiny, slots=2))
    assert found.somewhere
    assert found.fits == (True,)
    assert sum(found.parts.values()) == found.places[0]["ram"]
    assert found.parts["weights"] < tiny.stat().st_size
    assert (found.most, found.most_alone, found.trained) == (8192, 8192, 8192)
    assert not found.measured


def test_a_model_that_does_not(tiny):
    found = look_at(model(path=tiny), Box({"ram": 4 * MIB}))
    assert not found.somewhere
    assert found.most == 0


def test_each_gpu_is_a_place_of_its_own(tiny):
    found = look_at(model(path=tiny), gpus(1, 2))
    assert [list(place) for place in found.places] == [["gpu0"], ["gpu1"]]


def test_what_was_learned_counts(tiny):
    asked = model(path=tiny)
    settings = fingerprint(asked, look(asked))
    past = Past(
        expected={("m", settings): 7.0}, peaks={("m", run_at(settings, {"ram": 1})): {"ram": [300 * MIB, 300 * MIB]}}
    )
    found = look_at(asked, past=past)
    assert found.measured
    assert found.places[0]["ram"] >= 300 * MIB
    assert found.loading.learned == 7.0
    assert found.parts


@pytest.mark.parametrize(("bus", "expected"), [(0.0, (1.0, 0.1)), (0.5e6, (2.0, 2.0))])
def test_a_load_takes_what_the_slowest_link_takes(tiny, bus, expected):
    weights = look(model(path=tiny)).facts.weights
    found = look_at(model(path=tiny), links=Known(weights, weights * 10, weights * bus / 1e6)).loading
    assert (found.disk, found.memory) == pytest.approx(expected)
    assert set(found.rates) == ({"disk", "memory", "bus"} if bus else {"disk", "memory"})


@pytest.mark.parametrize(
    "asked",
    [
        model(path=None, url="http://127.0.0.1:9", engine="openai", launcher="attached"),
        model(path=None, command="serve", engine="openai", memory={"": GIB}),
    ],
)
def test_of_what_others_run_little_is_known(asked):
    found = look_at(asked)
    assert found.somewhere
    assert (found.most, found.parts, found.loading.disk) == (None, {}, None)


def test_a_file_that_is_gone_is_no_traceback(tmp_path):
    found = look_at(model(path=tmp_path / "gone.gguf"))
    assert (found.most, found.parts) == (None, {})
