"""Models as they are run: defaults, engines, launchers, paths (spec C1)."""

import json
from pathlib import Path

import pytest

from roundhouse.config.load import parse
from roundhouse.config.models import LoadTimeout
from roundhouse.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def read(text, **env: str):
        return parse(text, tmp_path / "etc/x.yaml", {"HOME": str(tmp_path / "home"), **env})

    return read


def test_c1_defaults_apply_where_a_model_is_silent(read):
    config = read(
        "defaults: {profile: fast-start, ttl: never, slots: 3, load_timeout: {expected: 9s, total: 5m}}\n"
        "models:\n"
        "  silent: {url: http://x}\n"
        "  loud: {url: http://x, profile: balanced, ttl: auto, slots: null, load_timeout: {total: 1m}}\n"
    )
    silent, loud = config.models["silent"], config.models["loud"]
    assert (silent.profile, silent.ttl, silent.slots) == ("fast-start", None, 3)
    assert silent.load_timeout == LoadTimeout(expected=9.0, stalled=120.0, total=300.0)
    assert (loud.profile, loud.ttl, loud.slots) == ("balanced", "auto", None)
    assert loud.load_timeout == LoadTimeout(expected=9.0, stalled=120.0, total=60.0)


def test_c1_paths_are_absolute(read, tmp_path):
    config = read(
        "state_dir: ../state\n"
        "tls: {cert: c.pem, key: /k.pem}\n"
        "engines: {llamacpp: {binary: llama-server}, vllm: {python: ./venv/bin/python}}\n"
        "models_dir: [m, ~/models]\n"
        "models:\n"
        "  a: {path: m.gguf, mmproj: ~/p.gguf}\n"
        "  b: {script: ./run.sh, engine: llamacpp}\n"
        '  c: {tabby: {dir: t, model_dir: "~", model_name: x}}\n'
    )
    etc, home = tmp_path / "etc", tmp_path / "home"
    assert config.state_dir == tmp_path / "state"
    assert config.tls is not None
    assert (config.tls.cert, config.tls.key) == (etc / "c.pem", Path("/k.pem"))
    assert (config.engines.llamacpp.binary, config.engines.sglang.python) == ("llama-server", None)
    assert config.engines.vllm.python == str(etc / "venv/bin/python")
    assert config.models_dir == (etc / "m", home / "models")
    assert (config.models["a"].path, config.models["a"].mmproj) == (etc / "m.gguf", home / "p.gguf")
    assert config.models["b"].script == etc / "run.sh"
    tabby = config.models["c"].tabby
    assert tabby is not None
    assert (tabby.dir, tabby.model_dir) == (etc / "t", home)


@pytest.mark.parametrize(
    ("env", "state"),
    [
        ({}, "home/.local/state/roundhouse"),
        ({"XDG_STATE_HOME": "/s"}, "/s/roundhouse"),
        ({"STATE_DIRECTORY": "/v:/w"}, "/v"),
    ],
)
def test_state_dir_of_a_service_and_of_a_user(read, tmp_path, env, state):
    assert read("models: {}", **env).state_dir == tmp_path / state


@pytest.mark.parametrize(
    ("body", "engine", "launcher"),
    [
        ("{path: /m.gguf}", "llamacpp", "process"),
        ("{path: /m.gguf, service: a.service}", "llamacpp", "systemd"),
        ("{path: /m.gguf, launcher: systemd}", "llamacpp", "systemd"),
        ("{path: /m.gguf, engine: vllm}", "vllm", "process"),
        ("{path: /gone, engine: sglang}", "sglang", "process"),
        ("{url: http://x/v1}", "openai", "attached"),
        ("{url: http://x/v1, engine: llamacpp}", "llamacpp", "attached"),
        ("{command: a}", "openai", "process"),
        ("{command: a, launcher: attached, port: 5}", "openai", "attached"),
        ("{script: a, engine: sglang, service: s}", "sglang", "systemd"),
        ("{tabby: {dir: /t, model_dir: /m, model_name: n}}", "tabbyapi", "process"),
    ],
)
def test_c1_engine_and_launcher(read, body, engine, launcher):
    model = read(f"models: {{m: {body}}}").models["m"]
    assert (model.engine, model.launcher) == (engine, launcher)


def test_a5_what_others_start_is_asked_for_its_name(read):
    models = read(
        "models:\n  a: {path: /m.gguf}\n  b: {script: /b, engine: vllm}\n  c: {script: /c, engine: vllm, served_name: x}\n"
        "  d: {tabby: {dir: /t, model_dir: /m, model_name: n}}\n"
    ).models
    assert [model.served_name for model in models.values()] == ["a", None, "x", None]


def test_c1_a_folder_of_exl3_is_loaded_by_the_checkout_that_is_configured(read, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text('{"quantization_config": {"quant_method": "exl3"}}')
    body = f"models: {{m: {{path: {tmp_path}/m, context: 4096}}}}\n"
    assert read(body).models["m"].tabby is None
    tabby = read(f"engines: {{tabbyapi: {{dir: {tmp_path}/api}}}}\n{body}").models["m"].tabby
    assert tabby is not None
    found = (tabby.dir, tabby.model_dir, tabby.model_name, tabby.max_seq_len)
    assert found == (tmp_path / "api", tmp_path, "m", 4096)


def test_c1_a_missing_file_is_a_warning_for_it_may_come_back(read):
    config = read("models:\n  a: {path: /gone.gguf}\n  b: {path: /gone, engine: vllm}\n")
    assert config.warnings == ("models.a: there is nothing at /gone.gguf", "models.b: there is nothing at /gone")


def test_c1_models_dir_models_are_listed_after_the_written_ones(read, tmp_path):
    folder = tmp_path / "etc/m"
    (folder / "exl").mkdir(parents=True)
    for name in ("z.gguf", "b.gguf", "mmproj-b-f16.gguf"):
        (folder / name).touch()
    (folder / "exl/config.json").write_text(json.dumps({"quantization_config": {"quant_method": "exl3"}}))
    config = read("defaults: {ttl: 5m}\nmodels_dir: m\nmodels: {mine: {path: m/z.gguf}}")
    assert list(config.models) == ["mine", "b", "exl"]
    found = config.models["b"]
    assert (found.engine, found.launcher, found.served_name, found.ttl) == ("llamacpp", "process", "b", 300.0)
    assert (found.path, found.mmproj) == (folder / "b.gguf", folder / "mmproj-b-f16.gguf")
    assert config.models["exl"].engine == "tabbyapi"


def test_c1_collisions_are_errors_that_name_both(read, tmp_path):
    folder = tmp_path / "etc/m"
    for name in ("a/x.gguf", "b/x.gguf", "y.gguf"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with pytest.raises(ConfigError) as error:
        read("models_dir: m\nmodels:\n  y: {path: /other/y.gguf}\n  k: {url: http://x, aliases: [x]}")
    one, two, three = error.value.message.splitlines()
    assert f"x.yaml:1: models_dir: two models are named 'x': {folder}/a/x.gguf and {folder}/b/x.gguf" in one
    assert f"x.yaml:3: models.y: two models are named 'y': this one and {folder}/y.gguf" in two
    assert "x.yaml:4: models.k.aliases: 'x' is the id of another model" in three


def test_c1_a_collision_ends_when_one_is_given_a_name(read, tmp_path):
    folder = tmp_path / "etc/m"
    for name in ("a/x.gguf", "b/x.gguf"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    assert list(read("models_dir: m\nmodels: {x-b: {path: m/b/x.gguf}}").models) == ["x-b", "x"]


def test_c1_a_path_alone_gets_the_projector_beside_it_unless_told_otherwise(read, tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    for name in ("a.gguf", "mmproj-f16.gguf"):
        (folder / name).touch()
    config = read("models:\n  a: {path: a.gguf}\n  b: {path: a.gguf, mmproj: null}\n  c: {path: ., mmproj: p.gguf}\n")
    assert [model.mmproj for model in config.models.values()] == [folder / "mmproj-f16.gguf", None, folder / "p.gguf"]
    assert config.models["c"].path == folder / "a.gguf"
