import pytest

from roundhouse.config.importers.choose import kind_of, read
from roundhouse.errors import ConfigError
from tests.support.import_sources import Store, capture, original


@pytest.mark.parametrize(
    ("name", "kind"), [("r.py", "original"), ("c.json", "original"), ("c.yaml", "llama-swap"), ("c.YML", "llama-swap")]
)
def test_files_are_told_by_their_names(name, kind, tmp_path):
    (tmp_path / name).write_text("")
    assert kind_of(tmp_path / name) == kind


def test_folders_are_told_by_what_they_hold(tmp_path):
    assert kind_of(tmp_path) == "folder"
    Store(tmp_path)
    assert kind_of(tmp_path) == "ollama"


def test_what_nothing_tells_has_to_be_said(tmp_path):
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ConfigError, match=r"x\.txt: can't tell what this is; say it with --from"):
        kind_of(tmp_path / "x.txt")
    with pytest.raises(ConfigError, match="there is nothing at"):
        kind_of(tmp_path / "none")


def test_each_kind_has_its_reader(tmp_path):
    assert read(original(tmp_path), None, {"HOME": str(tmp_path)}).kind == "original"
    assert read(capture("config_json", tmp_path) / "config.json", None, {}).kind == "original"
    assert read(capture("llama_swap", tmp_path) / "config.yaml", None, {}).kind == "llama-swap"
    (tmp_path / "router.txt").write_text("MODELS = {}")
    assert read(tmp_path / "router.txt", "original", {}).models == {}
    with pytest.raises(ConfigError, match="no manifests"):
        read(tmp_path, "ollama", {})
