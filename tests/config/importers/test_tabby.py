from roundhouse.config.importers.tabby import config_named, look


def test_the_configuration_named_in_the_source_is_taken(tmp_path):
    there = tmp_path / "tabbyAPI/config.yml"
    texts = ["/none/config.yml", "~/tabbyAPI/config.yml", "config.json"]
    assert str(config_named(texts, tmp_path)) == "/none/config.yml"
    there.parent.mkdir()
    there.write_text("model:\n")
    assert config_named(texts, tmp_path) == there
    assert config_named([], tmp_path) == there
    assert config_named([], tmp_path / "other").name == "config.yml"


def test_what_it_says_about_models(tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(
        "network: {host: 0.0.0.0, port: 5001, disable_auth: true}\nmodel: {model_dir: m, max_seq_len: 4096, cache_mode: Q4}\n"
    )
    found = look(config)
    assert (found.port, found.model_dir) == (5001, f"{tmp_path}/m")
    assert "opens TabbyAPI to the network" in found.advice[0]
    assert found.keys("a/b") == {
        "dir": str(tmp_path),
        "model_dir": f"{tmp_path}/m/a",
        "model_name": "b",
        "max_seq_len": 4096,
        "cache_mode": "Q4",
    }
    assert look(config, "/other").model_dir == "/other"


def test_defaults_and_odd_values_are_left_to_tabby(tmp_path):
    config = tmp_path / "config.yml"
    config.write_text("model: {max_seq_len: -1, cache_mode: null}\n")
    assert look(config).keys("x") == {"dir": str(tmp_path), "model_dir": f"{tmp_path}/models", "model_name": "x"}


def test_one_that_cannot_be_read_is_told(tmp_path):
    found = look(tmp_path / "config.yml")
    assert "can't be read" in found.advice[0]
    assert "guess" in found.advice[0]
    assert found.model_dir == f"{tmp_path}/models"
