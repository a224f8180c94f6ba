import keyword
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roundhouse.config.importers.original import PORTS, read
from roundhouse.config.importers.writing import text
from roundhouse.config.load import parse
from roundhouse.errors import ConfigError
from tests.support.import_sources import imported, original

EIGHT = {
    "mistral-large-2411-awq": ("sglang", "start_sglang_mistral_blackwell.sh", "sglang.service", 30000),
    "llama-3.3-70b-awq": ("sglang", "start_sglang_llama33_blackwell.sh", "sglang.service", 30000),
    "deepseek-r1-distill-70b-awq": ("sglang", "start_sglang_deepseek_blackwell.sh", "sglang.service", 30000),
    "magnum-v4-123b-awq": ("sglang", "start_sglang_magnum_blackwell.sh", "sglang.service", 30000),
    "kat-dev-awq-8bit": ("sglang", "start_sglang_katdev_blackwell.sh", "sglang.service", 30000),
    "monstral-123b-exl2-4bpw": ("tabbyapi", None, "tabbyapi.service", 5000),
    "behemoth-r1-123b-iq4nl": ("llamacpp", "start_llamacpp_behemoth_blackwell.sh", "llamacpp.service", 8085),
    "magnum-diamond-123b-iq4nl": ("llamacpp", "start_llamacpp_magnum_blackwell.sh", "llamacpp.service", 8086),
}


def test_c7_the_original_has_its_eight_models_on_its_units_and_ports(tmp_path):
    found, config = imported(original(tmp_path))
    assert list(config.models) == list(EIGHT)
    for name, (engine, script, service, port) in EIGHT.items():
        model = config.models[name]
        assert (model.engine, model.service, model.port, model.launcher) == (engine, service, port, "systemd")
        assert model.script == (tmp_path / "sglang" / script if script else None)
    tabby = config.models["monstral-123b-exl2-4bpw"].tabby
    assert tabby.model_dump(exclude_defaults=True) == {
        "dir": tmp_path / "tabbyAPI",
        "model_dir": tmp_path / "models/exl2",
        "model_name": "Monstral-123B-v2-exl2-4.0bpw",
        "max_seq_len": 32768,
        "cache_mode": "Q8",
    }
    assert tabby.mode == "api"
    assert config.models["magnum-v4-123b-awq"].served_name == "magnum"
    assert config.listen == ("127.0.0.1:8002", "[::1]:8002")
    assert not found.secret


def test_c7_the_faults_of_the_original_s_scripts_are_told_beside_their_models(tmp_path):
    found, _ = imported(original(tmp_path))
    said = {name: " ".join(entry.advice) for name, entry in found.models.items()}
    assert "sleep-on-idle" in said["magnum-v4-123b-awq"]
    assert "sleep-on-idle" not in said["llama-3.3-70b-awq"]
    assert "chmod +x" in said["kat-dev-awq-8bit"]
    assert "`exec`" in said["llama-3.3-70b-awq"]
    assert said["mistral-large-2411-awq"] == ""
    assert "--host 127.0.0.1" in said["behemoth-r1-123b-iq4nl"]
    assert "api_tokens.yml" in said["monstral-123b-exl2-4bpw"]
    assert any("every interface" in advice for advice in found.advice)


def test_inline_turns_simple_scripts_into_paths_and_arguments(tmp_path):
    found, config = imported(original(tmp_path), inline=True)
    mistral = config.models["mistral-large-2411-awq"]
    assert (mistral.script, mistral.service, mistral.launcher) == (None, None, "process")
    assert mistral.path == tmp_path / "models/Mistral-Large-Instruct-2411-AWQ"
    assert mistral.args[:3] == ("--sleep-on-idle", "--tp", "1")
    assert {"--port", "--host", "--model-path", "--served-model-name"} & set(mistral.args) == set()
    assert mistral.env == {"CUDA_VISIBLE_DEVICES": "0"}
    behemoth = config.models["behemoth-r1-123b-iq4nl"]
    assert (behemoth.context, behemoth.slots, behemoth.args) == (4096, 1, ("-ngl", "999"))
    assert behemoth.path == tmp_path / "models/gguf/Behemoth-R1-123B-IQ4_NL.gguf"
    assert config.engines.llamacpp.binary == f"{tmp_path}/llama.cpp/build/bin/llama-server"
    assert config.engines.sglang.python == f"{tmp_path}/sglang/sglang-env/bin/python"
    assert found.models["monstral-123b-exl2-4bpw"].body["service"] == "tabbyapi.service"


def test_inline_leaves_a_script_that_is_not_simple_and_says_why(tmp_path):
    source = original(tmp_path)
    script = tmp_path / "sglang/start_sglang_magnum_blackwell.sh"
    script.write_text(script.read_text().replace("export", "if true; then export X=1; fi\nexport", 1))
    found, config = imported(source, inline=True)
    assert config.models["magnum-v4-123b-awq"].script == script
    assert any("left as a script" in said for said in found.models["magnum-v4-123b-awq"].advice)


def test_a_second_program_of_an_engine_is_told(tmp_path):
    source = original(tmp_path)
    script = tmp_path / "sglang/start_llamacpp_magnum_blackwell.sh"
    script.write_text(script.read_text().replace("llama.cpp/build", "other/build"))
    found, _ = imported(source, inline=True)
    assert "one program for all models" in found.models["magnum-diamond-123b-iq4nl"].lost[0]


def test_the_same_source_gives_the_same_text(tmp_path):
    source = original(tmp_path)
    assert text(read(source, tmp_path)) == text(read(source, tmp_path))


def test_nothing_of_the_imported_file_is_run(tmp_path):
    source = tmp_path / "router.py"
    mark = tmp_path / "it-ran"
    touch = f"open({str(mark)!r}, 'w').close()"
    (tmp_path / "start.sh").write_text(f"#!/bin/sh\ntouch {mark}\n$(touch {mark})\nexec llama-server -m /m --port 9\n")
    source.write_text(
        f"{touch}\n__import__('os').system('touch {mark}')\nclass A:\n    {touch}\n"
        f"def f(x={touch!r}):\n    pass\nMODELS = {{'a': {{'backend': 'llamacpp', 'script': 'start.sh'}}}}\n{touch}\n"
    )
    found, config = imported(source)
    assert config.models["a"].port == 9
    assert found.models["a"].body["script"] == str(tmp_path / "start.sh")
    assert not mark.exists()


def test_no_executable_text_in_the_dictionary_is_run(tmp_path):
    source = tmp_path / "router.py"
    mark = tmp_path / "it-ran"
    source.write_text(f"MODELS = {{'a': {{'backend': open({str(mark)!r}, 'w')}}}}\n")
    with pytest.raises(ConfigError, match=r"router\.py:1: MODELS: `open\(.*would have to be run"):
        read(source, tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("x = 1", r"router\.py: has no MODELS dictionary.*config\.json"),
        ("MODELS = config.get('models', {})", r"router\.py:1: MODELS: `config\.get.*would have to be run"),
        ("\nMODELS = dict(a=1)", r"router\.py:2: MODELS: `dict\(a=1\)`"),
        ("MODELS = ['a']", r"router\.py:1: MODELS is not a dictionary"),
        ("MODELS = {\n'a': 1}", r"router\.py:2: 'a' is not a name with a dictionary"),
        ("MODELS = {\n'a': {'script': 'x'}}", r"router\.py:2: 'a' has no backend; write one of"),
        ("MODELS = {'a': {\n'backend': 'exo'}}", r"router\.py:2: 'a' has the backend 'exo', which is not known"),
        ("MODELS = {'a': {'backend': 'sglang',\n'script': 3}}", r"router\.py:2: script of 'a' is not text"),
        ("MODELS = {\n'a': {'backend': 'sglang'}}", r"router\.py:2: 'a' has neither script nor model_path"),
        (
            "MODELS = {'a': {'backend': 'sglang', 'script': 'x',\n'port': 70000}}",
            r"router\.py:2: the port of 'a' is 70000",
        ),
        ("MODELS = {\n'a': {}\n'b': {}}", r"router\.py:2: is not valid Python"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(written, said, tmp_path):
    source = tmp_path / "router.py"
    source.write_text(written)
    with pytest.raises(ConfigError, match=said):
        read(source, tmp_path)


@pytest.mark.parametrize(
    ("written", "port"),
    [
        ("", 30000),
        ("SGLANG_PORT = 31000", 31000),
        ("P = 31001\nSGLANG_URL = f'http://localhost:{P}'", 31001),
        ("BACKENDS = {'sglang': {'port': 31002}}", 31002),
        ("BACKENDS = {'sglang': {'url': 'http://localhost:31003'}}", 31003),
    ],
)
def test_ports_of_backends(written, port, tmp_path):
    source = tmp_path / "router.py"
    source.write_text(f"{written}\nMODELS = {{'a': {{'backend': 'sglang', 'script': '/none.sh'}}}}\n")
    assert imported(source)[1].models["a"].port == port


def test_the_router_s_own_settings(tmp_path):
    source = tmp_path / "router.py"
    source.write_text(
        "MODELS: dict = {}\nMODEL_LOAD_TIMEOUT = 300\nuvicorn.run(app, host='127.0.0.1', port=9002)\nMODELS.update(x)\n"
    )
    found, config = imported(source)
    assert config.listen == ("127.0.0.1:9002", "[::1]:9002")
    assert config.defaults.load_timeout.expected == 300
    assert found.lost == ("line 4: MODELS is changed by code there, which is not run",)
    assert found.advice == ()


def test_an_engine_s_key_in_a_script_is_kept_and_makes_the_file_secret(tmp_path):
    source = tmp_path / "router.py"
    source.write_text("MODELS = {'a': {'backend': 'llamacpp', 'script': 'a.sh', 'color': 1, 'host': 'box'}}\n")
    (tmp_path / "a.sh").write_text("#!/bin/sh\nexec llama-server -m /m --api-key s3cret\n")
    found, config = imported(source)
    assert found.secret
    assert config.models["a"].api_key.get_secret_value() == "s3cret"
    assert not any("s3cret" in said for said in (*found.all_lost(), *found.all_advice()))
    assert {said.split()[0] for said in found.models["a"].lost} == {"color", "host"}


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="$"), min_size=1, max_size=12).filter(
    lambda name: name.isprintable() and name.strip() and not keyword.iskeyword(name)
)
WORDS = st.text("abcXYZ019_-. ", min_size=1, max_size=12).map(str.strip).filter(lambda word: word.strip("."))


@given(
    st.dictionaries(
        NAMES,
        st.tuples(st.sampled_from(["sglang", "llamacpp", "vllm"]), WORDS, WORDS, st.integers(1, 65535) | st.none()),
        max_size=4,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_dictionary_of_names_backends_and_scripts_comes_back(tmp_path, wanted):
    models = {
        name: {"backend": engine, "script": f"/none/{script}.sh", "service": f"{service}.service", "port": port}
        for name, (engine, script, service, port) in wanted.items()
    }
    source = tmp_path / "router.py"
    source.write_text(f"MODELS = {models!r}\n", "utf-8")
    config = parse(text(read(source, tmp_path)), tmp_path / "roundhouse.yaml", {})
    found = {name: (model.engine, model.script, model.service, model.port) for name, model in config.models.items()}
    assert found == {
        name: (engine, Path(f"/none/{script}.sh"), f"{service}.service", port or PORTS[engine])
        for name, (engine, script, service, port) in wanted.items()
    }
    assert list(found) == list(wanted)
