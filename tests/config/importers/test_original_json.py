import json

import pytest

from roundhouse.config.importers.original_json import read
from roundhouse.errors import ConfigError
from tests.support.import_sources import capture, imported


def test_c7_a_config_json_with_its_wrapper_scripts(tmp_path):
    source = capture("config_json", tmp_path) / "config.json"
    found, config = imported(source)
    kat = config.models["kat-dev-q4"]
    assert (kat.engine, str(kat.path), kat.port) == ("llamacpp", "/home/user/models/gguf/KAT-Dev-Q4_K_M.gguf", 8085)
    assert kat.args == ("-ngl", "999", "-c", "8192")
    assert config.models["qwen-q4"].path == source.parent / "gguf/Qwen3-8B-Q4_K_M.gguf"
    deepseek = config.models["deepseek-r1-awq"]
    assert (deepseek.engine, deepseek.port, deepseek.args) == ("sglang", 30001, ("--sleep-on-idle",))
    assert deepseek.env == {"CUDA_VISIBLE_DEVICES": "0"}
    tabby = config.models["llama3.1-70b-exl2"].tabby
    assert (str(tabby.dir), str(tabby.model_dir)) == ("/home/user/tabbyAPI", "/home/user/models/exl2")
    assert tabby.model_name == "Meta-Llama-3.1-70B-Instruct-exl2-4.25bpw"
    assert config.listen == ("127.0.0.1:8010", "[::1]:8010")
    assert config.defaults.load_timeout.expected == 300
    assert config.engines.llamacpp.binary == "/opt/llama.cpp/build/bin/llama-server"
    assert config.engines.sglang.python == "/opt/sglang/venv/bin/python"
    assert found.lost == ("backends.sglang.host gpu-box: engines run on this machine; use `url:` for one elsewhere",)


def test_b3_each_model_has_its_own_path_though_one_wrapper_served_them_all(tmp_path):
    _, config = imported(capture("config_json", tmp_path) / "config.json")
    assert config.models["kat-dev-q4"].path != config.models["qwen-q4"].path


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[]", 'no "models" object'),
        ("{}", 'no "models" object'),
        ('{"models": {"a": 1}}', "models.a is not an object"),
        ('{"models": {"a": {"backend": "x"}}}', "models.a: 'a' has the backend 'x'"),
        ('{"models": {"a": {"backend": "sglang"}}}', "models.a has no model_path"),
        ('{"models": {"a": {"backend": "sglang", "model_path": "/m"}}, "backends": 1}', "backends is not an object"),
        (
            '{"models": {"a": {"backend": "sglang", "model_path": "/m"}}, "backends": {"sglang": {"port": "x"}}}',
            "the port of 'sglang' is 'x'",
        ),
        ('{"models": {}, "router_port": 0}', "the port of 'the router' is 0"),
        ('{"models": {}\n"x"}', r"config\.json:2: is not JSON"),
    ],
)
def test_b20_what_is_wrong_is_said_and_not_swallowed(written, said, tmp_path):
    source = tmp_path / "config.json"
    source.write_text(written)
    with pytest.raises(ConfigError, match=said):
        read(source, tmp_path)


def test_without_wrappers_and_backends_the_usual_ports_hold(tmp_path):
    source = tmp_path / "config.json"
    source.write_text(json.dumps({"models": {"a": {"backend": "vllm", "model_path": "/m", "n": 1}}, "more": 1}))
    found, config = imported(source)
    assert (config.models["a"].port, config.models["a"].args) == (8000, ())
    assert found.all_lost() == ("more is not known here", "a: n is not known here")


def test_a_wrapper_with_words_that_only_a_shell_knows_is_told(tmp_path):
    source = tmp_path / "config.json"
    source.write_text(json.dumps({"models": {"a": {"backend": "vllm", "model_path": "/m"}}}))
    (tmp_path / "vllm.sh").write_text("#!/bin/sh\nexec vllm serve $MODEL --tp $TP --seed 1\n")
    found, config = imported(source)
    assert config.models["a"].args == ("--tp", "--seed", "1")
    assert any("only a shell knows" in said for said in found.models["a"].advice)
