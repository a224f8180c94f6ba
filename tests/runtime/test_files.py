"""Facts of real files on disk."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from roundhouse.core.model import Kind
from roundhouse.formats.errors import FormatError
from roundhouse.runtime.files import facts_of, weights_of
from tests.support.gguf_files import write_tiny_chat


def safetensors(path: Path, size: int) -> None:
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * size)


def part(path: Path, number: int) -> None:
    """A part of a split model as llama-gguf-split writes it: metadata in the first one alone."""
    writer = gguf.GGUFWriter(str(path), "llama")
    if number == 0:
        writer.add_name("split")
        writer.add_block_count(1)
    writer.add_uint16("split.no", number)
    writer.add_uint16("split.count", 2)
    writer.add_tensor(f"t{number}", np.zeros(100 + number, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file(tmp_path):
    facts = facts_of(write_tiny_chat(tmp_path / "a.gguf", "alpha"))
    assert (facts.name, facts.kind) == ("alpha", Kind.CHAT)


def test_c1_a_split_gguf_is_one_model(tmp_path):
    for number in (0, 1):
        part(tmp_path / f"m-0000{number + 1}-of-00002.gguf", number)
    facts = facts_of(tmp_path / "m-00001-of-00002.gguf")
    assert (facts.name, facts.weights, facts.layers) == ("split", 4 * 201, 1)


def test_c1_a_missing_part_is_named(tmp_path):
    part(tmp_path / "m-00001-of-00002.gguf", 0)
    with pytest.raises(FormatError, match=r"m-00002-of-00002.gguf: no such file"):
        facts_of(tmp_path / "m-00001-of-00002.gguf")


@pytest.mark.parametrize("form", [None, "exl3", "awq"])
def test_folders(tmp_path, form):
    config: dict[str, object] = {"num_hidden_layers": 2}
    if form:
        config["quantization_config"] = {"quant_method": form, "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    safetensors(tmp_path / "a-1.safetensors", 10)
    safetensors(tmp_path / "a-2.safetensors", 5)
    facts = facts_of(tmp_path)
    assert (facts.weights, facts.layers, facts.chat_template) == (15, 2, True)
    assert facts.format == ("exl3" if form == "exl3" else "safetensors")


@pytest.mark.parametrize("name", ["chat_template.jinja", None])
def test_a_template_may_be_a_file_of_its_own(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    if name:
        (tmp_path / name).touch()
    assert facts_of(tmp_path).chat_template is bool(name)


def test_bad_files_are_named_with_the_reason_once(tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(write_tiny_chat(tmp_path / "a.gguf", "a").read_bytes()[:100_000])
    wrong = tmp_path / "wrong.gguf"
    wrong.write_text("<html>404</html>")
    empty = tmp_path / "folder"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "x.safetensors").write_bytes(b"1234")
    bad_json = tmp_path / "bad"
    bad_json.mkdir()
    (bad_json / "config.json").write_text("{")
    for path, said in [
        (cut, f"{cut}: cut short: 100,000 of"),
        (wrong, f"{wrong}: not a GGUF file"),
        (tmp_path / "gone.gguf", f"{tmp_path / 'gone.gguf'}: no such file or directory"),
        (empty, f"{empty / 'config.json'}: no such file or directory"),
        (broken, f"{broken / 'x.safetensors'}: cut short"),
        (bad_json, f"{bad_json}: config.json is not JSON"),
    ]:
        with pytest.raises(FormatError) as error:
            facts_of(path)
        assert str(error.value).startswith(said)
        assert str(error.value).count(str(path)) == 1


def names(found) -> list[str]:
    return [file.name for file in found]


def test_d12_weights_are_all_parts_of_a_gguf():
    found = weights_of(Path("/nowhere/m-00001-of-00002.gguf"))
    assert names(found) == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_d12_weights_are_the_shards_that_the_index_names(tmp_path):
    for name in ("model-00001-of-00002", "model-00002-of-00002", "consolidated"):
        safetensors(tmp_path / f"{name}.safetensors", 8)
    assert len(weights_of(tmp_path)) == 3
    index = {"weight_map": {f"t{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert names(weights_of(tmp_path)) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"t": "../../secret"}}'])
def test_d12_an_index_that_is_none_hides_nothing(tmp_path, index):
    safetensors(tmp_path / "output.safetensors", 8)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert names(weights_of(tmp_path)) == ["output.safetensors"]
