import pytest

from roundhouse.config.importers.serving import CannotTellError, model_keys, program_of, server, without


def found(line):
    made = server(tuple(line.split()))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("line", "engine", "model", "port"),
    [
        ("./bin/llama-server -m /m.gguf --port 8085", "llamacpp", "/m.gguf", 8085),
        ("llama-server --model=/m.gguf --port=1", "llamacpp", "/m.gguf", 1),
        ("python -m sglang.launch_server --model-path /m --port 30000", "sglang", "/m", 30000),
        ("/v/bin/python3.12 -m sglang.launch_server --model /m", "sglang", "/m", None),
        ("vllm serve /m --port x", "vllm", "/m", None),
        ("python3 -m vllm.entrypoints.openai.api_server --model /m --port 8000", "vllm", "/m", 8000),
        ("numactl -N 0 llama-server -m /m.gguf", "llamacpp", "/m.gguf", None),
    ],
)
def test_an_engine_is_known_by_its_command(line, engine, model, port):
    made = found(line)
    assert (made.engine, made.model, made.port) == (engine, model, port)


@pytest.mark.parametrize("line", ["", "python main.py", "docker run image:server -m /m", "sglang"])
def test_other_commands_are_no_engine(line):
    assert server(tuple(line.split())) is None


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        (
            "llama-server -m m.gguf -c 8192 -np 2 --port 1 --host x -ngl 99",
            {"path": "/f/m.gguf", "context": 4096, "slots": 2, "args": ["-ngl", "99"]},
        ),
        ("llama-server -m /m.gguf -c 4096", {"path": "/m.gguf", "args": ["-c", "4096"]}),
        ("llama-server -m /m.gguf -c 4097 -np 2", {"path": "/m.gguf", "args": ["-c", "4097", "-np", "2"]}),
        (
            "llama-server -m /m.gguf -a other --grammar-file ./g",
            {"path": "/m.gguf", "served_name": "other", "args": ["--grammar-file", "/f/g"]},
        ),
        ("llama-server -m /m.gguf -a id", {"path": "/m.gguf"}),
        ("vllm serve /m --port 1 --tp 2", {"path": "/m", "args": ["--tp", "2"]}),
    ],
)
def test_a_command_in_our_keys(line, keys):
    made = found(line)
    assert model_keys(made, "/f", "id") == {"engine": made.engine} | keys


@pytest.mark.parametrize(
    ("line", "folder", "said"),
    [
        ("llama-server -hf org/model", "/f", "-hf lets the engine find the model"),
        ("llama-server --port 1", "/f", "names no model"),
        ("llama-server -m m.gguf", None, "relative"),
        ("vllm serve org/model", "/f", "name of a repository"),
    ],
)
def test_what_is_not_certain_is_not_said(line, folder, said):
    with pytest.raises(CannotTellError, match=said):
        model_keys(found(line), folder, "id")


def test_an_unknown_word_is_not_certain():
    made = server(("llama-server", "-m", "/m.gguf", None))
    with pytest.raises(CannotTellError, match="only known to the shell"):
        model_keys(made, None, "id")


@pytest.mark.parametrize(
    ("line", "folder", "venv", "program"),
    [
        ("llama-server -m /m", None, None, None),
        ("./bin/llama-server -m /m", "/l/build", None, "/l/build/bin/llama-server"),
        ("python -m sglang.launch_server", None, "/v", "/v/bin/python"),
        ("python -m sglang.launch_server", None, None, None),
        ("/o/python -m sglang.launch_server", None, "/v", "/o/python"),
        ("/v/bin/vllm serve /m", None, None, "/v/bin/python"),
    ],
)
def test_the_program(line, folder, venv, program):
    assert program_of(found(line), folder, venv) == program


def test_arguments_without_some():
    assert without(("-a", "1", "--b=2", "--c", "--d", "3"), ["-a", "--b"]) == ["--c", "--d", "3"]
