"""What a model's files and this machine come to in the ledger."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from roundhouse.app import specs
from roundhouse.config.models import ModelConfig
from roundhouse.runtime import processor


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
    model = ModelConfig(id="m", path=quantised, engine="llamacpp", launcher="process", context=256, slots=1)
    monkeypatch.setattr(processor, "flags", lambda: frozenset(flags))
    claim = specs.make_spec(model, specs.look(model), device, {}, {}, {}).claim[device]
    monkeypatch.setattr(processor, "flags", frozenset[str])
    once = specs.make_spec(model, specs.look(model), "ram", {}, {}, {}).claim["ram"]
    assert claim - once == (1024 * 576 if twice else 0)
