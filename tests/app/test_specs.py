"""What a model's files and this machine come to in the ledger."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from roundhouse.app import specs
from roundhouse.app.specs import Looked, fingerprint
from roundhouse.config.models import ModelConfig
from roundhouse.ports import Build
from roundhouse.runtime import processor
from tests.app.twogpus import FACTS, RAM_ONLY, box, spec
from tests.engines.models import model


def test_c3b_seats_are_claimed_in_every_place():
    found = spec(model(port=99, service="llm"))
    assert [{d: n for d, n in claim.items() if not d.startswith("gpu")} for claim in found] == [
        {"port:99": 1, "unit:llm": 1}
    ] * 2


def test_d2_an_engine_that_would_be_placed_otherwise_runs_differently():
    looked = Looked(FACTS, None, 0)
    assert fingerprint(model(), looked) != fingerprint(model(devices=("gpu1",)), looked)
    assert fingerprint(model(), looked) == fingerprint(model(memory="4GiB"), looked)


async def _command(asked: ModelConfig, claim):
    async def builds(_model, _engine):
        return Build(("engine",))

    looked = Looked(FACTS, None, 0)
    runnable = specs.make_runnable(asked, looked, None, builds, box())  # type: ignore[arg-type]  # nothing is started
    return await runnable.command(4711, runnable.place(claim))


async def test_d2_a_script_is_told_its_gpus_where_devices_name_them():
    script = model(path=None, script="/s", engine="sglang", port=1, devices=("gpu1",), env={"A": "b"})
    made = await _command(script, {"gpu1": 1})
    assert made.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1", "A": "b"}
    assert (await _command(script.model_copy(update={"devices": ()}), {"gpu0": 1})).env == {"A": "b"}


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    """A model of one matrix in Q4_0, 18 bytes for 32 numbers."""
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((1024, 576), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("flags", "device", "twice"), [({"avx2"}, "ram", True), (set(), "ram", False), ({"avx2"}, "gpu0", False)]
)
def test_d1_weights_count_twice_where_a_processor_repacks_them(flags, device, twice, quantised, monkeypatch):
    asked = ModelConfig(id="m", path=quantised, engine="llamacpp", launcher="process", context=256, slots=1)
    machine = RAM_ONLY if device == "ram" else box()
    monkeypatch.setattr(processor, "flags", lambda: frozenset(flags))
    claim = specs.make_spec(asked, specs.look(asked), machine, {}, {}).claim[device]
    monkeypatch.setattr(processor, "flags", frozenset[str])
    once = specs.make_spec(asked, specs.look(asked), RAM_ONLY, {}, {}).claim["ram"]
    assert claim - once == (1024 * 576 if twice else 0)
