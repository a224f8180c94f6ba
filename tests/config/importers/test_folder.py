import json

import pytest

from roundhouse.config.importers.folder import read
from roundhouse.errors import ConfigError
from tests.support.import_sources import imported


def write(path, text="GGUF"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_model_below_a_folder_is_written_out(tmp_path):
    write(tmp_path / "one/Small-Q4.gguf")
    write(tmp_path / "one/mmproj-Small-f16.gguf")
    write(tmp_path / "two/config.json", json.dumps({"quantization_config": {"quant_method": "awq"}}))
    write(tmp_path / "half-00001-of-00002.gguf")
    found, config = imported(tmp_path)
    assert {name: (model.engine, model.path) for name, model in config.models.items()} == {
        "Small-Q4": ("llamacpp", tmp_path / "one/Small-Q4.gguf"),
        "two": ("sglang", tmp_path / "two"),
    }
    assert config.models["Small-Q4"].mmproj == tmp_path / "one/mmproj-Small-f16.gguf"
    assert "half-00002-of-00002.gguf missing" in found.lost[0]


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path):
    write(tmp_path / "a/m.gguf")
    write(tmp_path / "b/m.gguf")
    found, config = imported(tmp_path)
    assert list(config.models) == ["a/m", "b/m"]
    assert "2 are named m" in found.models["a/m"].advice[0]


@pytest.mark.parametrize("place", ["", "none"])
def test_a_folder_without_models(place, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no GGUF|is no folder"):
        read(tmp_path / place)
