import pytest

from roundhouse.config.importers.llama_swap import read
from roundhouse.errors import ConfigError
from tests.support.import_sources import capture, imported


@pytest.fixture
def whole(tmp_path):
    return imported(capture("llama_swap", tmp_path) / "config.yaml")


@pytest.fixture
def model(tmp_path):
    """Imports one model: what was read of it, and what the loader makes of it."""

    def made(written):
        source = tmp_path / "config.yaml"
        source.write_text(f"models:\n  m:\n    {written}\n")
        found, config = imported(source)
        return found.models["m"], config.models["m"]

    return made


def test_a_plain_llama_server_becomes_a_path_with_arguments(whole):
    _, config = whole
    llama = config.models["llama"]
    assert (llama.engine, str(llama.path), llama.port) == ("llamacpp", "/srv/models/llama-8B-Q4_K_M.gguf", None)
    assert (llama.context, llama.slots, llama.args) == (8192, 2, ("--temp", "0.7"))
    assert llama.env == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert llama.name == "Llama 3.1 8B (llama)"
    assert llama.description == "small, costs $0"
    assert list(llama.aliases) == ["gpt-4o-mini", "gpt-3.5-turbo"]
    assert (llama.ttl, llama.strip) == (60, ("temperature", "top_p"))
    assert llama.set == {"temperature": 0.7, "stop": ["</s>"]}
    embedder = config.models["embedder"]
    assert (embedder.unlisted, embedder.ttl, embedder.args) == (True, None, ("--embeddings",))


def test_a_llama_server_of_another_build_stays_a_command(whole):
    found, config = whole
    own = config.models["own-build"]
    assert (own.engine, own.command) == ("openai", "/opt/other/llama-server --port 9999 -m /srv/models/other.gguf")
    assert (own.port, own.health, own.status.channel) == (9999, "/health", "off")
    assert "another" in found.models["own-build"].advice[0]


def test_a_container_with_its_way_to_stop(whole):
    found, config = whole
    docker = config.models["docker-llama"]
    assert docker.command == (
        "docker run --name docker-llama --init --rm -p ${PORT}:8080 -v /srv/models:/models "
        "ghcr.io/ggml-org/llama.cpp:server --model '/models/Qwen 2.5.gguf' --api-key 'unset'"
    )
    assert (docker.stop_command, docker.health, docker.port) == ("docker stop docker-llama", "/custom", None)
    assert (docker.served_name, docker.slots, docker.strip) == ("qwen:qwq", 3, ("seed",))
    assert docker.aliases == {"docker-llama:high": {"reasoning_effort": "high"}}
    assert docker.api_key.get_secret_value() == "unset"
    assert any("memory:" in said for said in found.models["docker-llama"].advice)


def test_what_a_model_has_no_like_for_is_told(whole):
    found, config = whole
    assert config.models["vllm"].stop_command is None
    told = " ".join(found.models["vllm"].lost)
    assert "${PID}" in told
    assert "checkEndpoint none" in told
    assert "concurrencyLimit 4" in " ".join(found.models["llama"].lost)


def test_an_engine_on_another_machine_is_a_url(whole):
    found, config = whole
    assert config.models["elsewhere"].url == "http://box.lan:8080/v1"
    assert "another machine" in found.models["elsewhere"].lost[0]


@pytest.mark.parametrize(
    "command",
    [
        "llama-server -hf org/model --port ${PORT}",
        "numactl llama-server -m /m.gguf --port ${PORT}",
        "llama-server -m ${env.HOME}/m.gguf --port ${PORT}x",
        "bash -c 'llama-server -m /m.gguf --port ${PORT}'",
    ],
)
def test_what_is_not_plainly_a_llama_server_stays_a_command(command, model):
    _, found = model(f'cmd: "{command}"')
    assert found.path is None
    assert "${PORT}" in found.command


def test_dollar_signs_of_a_command_reach_the_engine_as_they_were(model):
    from roundhouse.config.expand import expand

    entry, found = model("cmd: \"x --port ${PORT} --price '$5 $$' --at /a${PORT}b\"")
    assert expand(found.command, {"PORT": "7"}) == "x --port 7 --price '$5 $$' --at /a7b"
    assert entry.lost == ()


def test_a_relative_model_is_below_the_configuration_s_folder(model, tmp_path):
    entry, found = model("cmd: llama-server -m models/m.gguf --port ${PORT} -c 4096")
    assert found.path == tmp_path / "models/m.gguf"
    assert found.args == ("-c", "4096")
    assert "relative" in entry.advice[0]


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ("cmd: llama-server -m /m.gguf --port 99\n    proxy: http://localhost:99", "port", 99),
        ("cmd: llama-server -m /m.gguf --port 99", "port", 99),
        ("cmd: x\n    proxy: http://127.0.0.1:5000", "port", 5000),
        ("cmd: x ${PORT}\n    useModelName: y", "served_name", "y"),
        ("cmd: x ${PORT}\n    unlisted: true", "unlisted", True),
        ("cmd: x ${PORT}\n    ttl: 0", "ttl", None),
        ("cmd: x ${PORT}\n    env: ['A=b=c', 'D=']", "env", {"A": "b=c", "D": ""}),
        ("cmd: x ${PORT}\n    cmdStop: stop it", "stop_command", "stop it"),
        ("cmd: x ${PORT}", "health", "/health"),
    ],
)
def test_one_key_at_a_time(written, key, value, model):
    assert getattr(model(written)[1], key) == value


def test_keys_that_are_not_known_are_told(model):
    entry, _ = model(
        "cmd: x ${PORT}\n    surprise: 1\n    filters: {odd: 1, setParamsByID: {m: {a: 1}}}\n    metadata: {}"
    )
    assert {said.split()[0] for said in entry.lost} == {"surprise", "filters.odd", "filters.setParamsByID", "metadata:"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("name: x", r"config\.yaml:2: models\.m\.cmd: has no cmd"),
        ("cmd: 5", r"config\.yaml:3: models\.m\.cmd: is not text"),
        ('cmd: "x \'y"', r"config\.yaml:3: models\.m\.cmd: is not a command line"),
        ("cmd: x ${none}", r"config\.yaml:3: models\.m\.cmd: there is no macro \$\{none\}"),
        ("cmd: x ${PORT}\n    name: ${none}", r"config\.yaml:4: models\.m\.name: there is no macro"),
        ("cmd: x", r"config\.yaml:2: models\.m\.proxy: cmd does not mention"),
        ("cmd: x\n    proxy: box", r"config\.yaml:4: models\.m\.proxy: 'box' is no address"),
        ("cmd: x ${PORT}\n    env: [A]", r"config\.yaml:4: models\.m\.env: 'A' sets no variable"),
        ("cmd: x ${PORT}\n    filters: 1", r"config\.yaml:4: models\.m\.filters: is not a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(written, said, tmp_path):
    source = tmp_path / "config.yaml"
    source.write_text(f"models:\n  m:\n    {written}\n")
    with pytest.raises(ConfigError, match=said):
        read(source, {})
