import io
import json
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from roundhouse.config.load import load
from roundhouse.demo import run
from roundhouse.demo.cache import Cache
from roundhouse.demo.config import CHAT_TEMPLATE, Assets, demo_config
from roundhouse.demo.engine import Engine

MIB = 1024**2


@pytest.fixture
def made(tmp_path):
    """Assets on disk, in a folder with a name that YAML and our own `${VAR}` could stumble over."""
    folder = tmp_path / 'mo"dels ${HOME}: #1'
    folder.mkdir()
    for name in ("smol.gguf", "gemma.gguf", "minilm.gguf", "template.jinja", "llama-server"):
        (folder / name).write_bytes(b"GGUF")
    files = [folder / name for name in ("smol.gguf", "gemma.gguf", "template.jinja", "minilm.gguf")]
    return lambda prebuilt: Assets(Engine(folder / "llama-server", prebuilt), *files)


@pytest.fixture(params=[True, False], ids=["prebuilt", "module"])
def config(request, made, tmp_path):
    file = run.write_config(made(request.param), "127.0.0.1:8123", tmp_path)
    return load(file, {})


def test_h_the_models_are_those_promised_in_their_order(config):
    assert list(config.models) == ["smollm2-135m", "gemma3-270m", "minilm-l6"]
    assert config.models["minilm-l6"].kind == "embedding"
    assert config.models["minilm-l6"].pinned
    assert config.models["minilm-l6"].preload


def test_one_chat_model_fits_beside_the_embedding_model_and_two_do_not(config):
    budget = config.devices["ram"]
    smol, gemma, minilm = (model.memory["ram"] for model in config.models.values())
    assert smol + minilm <= budget
    assert gemma + minilm <= budget
    assert smol + gemma > budget


def test_nor_do_two_fit_once_they_are_measured(config):
    """Resident sizes of the leanest engine, with 2 slots of 4096 tokens: 340, 409 and 95 MiB, and 90 for the window."""
    measured = (340 + 409 + 90 + 95) * MIB
    assert measured > config.devices["ram"]


def test_paths_survive_yaml_and_expansion(config, made):
    gemma = config.models["gemma3-270m"]
    assert str(gemma.path) == str(made(False).gemma3)
    assert str(made(False).template) in gemma.args
    assert gemma.set["stop"] == ["Question:", "\n\n"]
    assert config.engines.llamacpp.binary == str(made(False).engine.program)


def test_flags_that_our_shim_lacks_are_for_the_prebuilt_server_only(made, tmp_path):
    assert "--device" in demo_config(made(True), "127.0.0.1:8002", tmp_path)
    assert "--device" not in demo_config(made(False), "127.0.0.1:8002", tmp_path)


def test_two_demos_on_two_addresses_do_not_share_state(made, tmp_path):
    one = run.write_config(made(True), "127.0.0.1:8002", tmp_path)
    two = run.write_config(made(True), "127.0.0.1:8003", tmp_path)
    assert load(one, {}).state_dir != load(two, {}).state_dir


def test_the_lines_to_try_are_valid_shell_and_json(tmp_path):
    text = run.banner("127.0.0.1:8123", tmp_path / "roundhouse.yaml")
    words = shlex.split(text.partition("another terminal:")[2].partition("Open WebUI")[0])
    bodies = [json.loads(words[at + 1]) for at, word in enumerate(words) if word == "-d"]
    assert [body["model"] for body in bodies] == ["smollm2-135m", "gemma3-270m", "minilm-l6"]
    assert "http://127.0.0.1:8123/v1 " in text
    assert "roundhouse chat smollm2-135m --url http://127.0.0.1:8123" in text


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_CACHE_HOME": "/var/cache/me"}, Path("/var/cache/me/roundhouse/demo")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/roundhouse/demo"),
        ({}, Path.home() / ".cache/roundhouse/demo"),
    ],
)
def test_the_cache_is_where_the_xdg_specification_has_it(environment, folder):
    assert run.default_cache(environment) == folder


def test_prepare_says_why_the_engine_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(Cache, "get", lambda self, asset: self.root / asset.folder)
    program = tmp_path / "xllama-server"
    monkeypatch.setattr(run, "choose", lambda *_args: Engine(program, False, "it needs AVX-512 [really]"))
    said = io.StringIO()
    made = run.prepare(tmp_path, Console(file=said, width=40), {})
    assert made.engine.program == program
    assert "instead of the prebuilt llama-server: it needs AVX-512 [really]." in said.getvalue()
    assert made.template.read_text() == CHAT_TEMPLATE
