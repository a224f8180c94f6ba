import pytest

from tests.cli.commands import run
from tests.support.gguf_files import write_tiny_chat


@pytest.fixture
def write(tmp_path):
    """Writes a configuration below tmp_path and returns its path."""

    def made(text: str) -> str:
        file = tmp_path / "roundhouse.yaml"
        file.write_text(f"state_dir: {tmp_path / 'state'}\n{text}")
        return str(file)

    return made


def test_errors_have_line_numbers_and_exit_2(write):
    file = write("lisen: 127.0.0.1:8002\nmodels:\n  a: {url: 'http://x', ttl: 5}\n")
    shown = run("check", "-c", file)
    assert shown.code == 2
    assert f"{file}:2: " in shown.err
    assert f"{file}:4: models.a.ttl" in shown.err
    assert "Traceback" not in shown.err


def test_errors_as_json(write):
    shown = run("check", "--json", "-c", write("models: {a: {}}\n"))
    assert shown.code == 2
    assert shown.json["ok"] is False
    assert ":2: models.a" in shown.json["errors"][0]


def test_h_no_configuration_names_the_paths_tried_and_init(tmp_path):
    shown = run("check", cwd=tmp_path, HOME=str(tmp_path / "home"), XDG_CONFIG_HOME="")
    assert shown.code == 2
    for part in (
        "$ROUNDHOUSE_CONFIG",
        "./roundhouse.yaml",
        str(tmp_path / "home/.config/roundhouse/config.yaml"),
        "roundhouse init",
    ):
        assert part in shown.err


def test_a_command_and_a_url_with_their_secrets_hidden(write):
    text = """
models:
  mine: {command: "serve --port ${PORT} --api-key topsecret1", memory: 1GiB, slots: 3, context: 4096}
  theirs: {url: "http://127.0.0.1:9/v1", api_key: topsecret2}
  either: {any_of: [mine, theirs]}
"""
    shown = run("check", "-c", write(text))
    assert shown.code == 0, shown.err
    assert "serve --port $PORT --api-key [hidden]" in shown.out
    assert "topsecret" not in shown.out + shown.err
    assert "about 1.0 GiB on ram" in shown.out
    assert "4096 tokens; 3 at once" in shown.out
    assert "http://127.0.0.1:9/v1" in shown.out
    assert "the first that is loaded of mine, theirs" in shown.out
    assert "3 models; all can be loaded." in shown.out


def test_a_file_is_described_and_a_missing_engine_told(write, tmp_path):
    model = write_tiny_chat(tmp_path / "tiny.gguf", "alpha")
    shown = run(
        "check",
        "--json",
        "-c",
        write(f"engines: {{llamacpp: {{binary: {tmp_path}/none}}}}\nmodels: {{a: {{path: {model}}}}}\n"),
    )
    assert shown.code == 0, shown.err
    (found,) = shown.json["models"]
    assert found["engine"] == "llamacpp"
    assert found["launcher"] == "process"
    assert found["file"] | {"format": "gguf", "name": "alpha", "context": 8192} == found["file"]
    assert found["memory"]["ram"] > model.stat().st_size
    assert found["runs"] == ""
    assert "none is not a program" in found["problems"][0]
    assert not (tmp_path / "state").exists()


def test_the_command_line_of_llamacpp(write, tmp_path, llama_server):
    model = write_tiny_chat(tmp_path / "tiny.gguf", "alpha")
    text = (
        f"engines: {{llamacpp: {{binary: {llama_server}}}}}\nmodels: {{a: {{path: {model}, context: 512, slots: 2}}}}\n"
    )
    shown = run("check", "--json", "-c", write(text))
    (found,) = shown.json["models"]
    assert found["problems"] == []
    assert found["runs"].startswith(f"{llama_server} -m {model} ")
    assert "-c 1024 -np 2" in found["runs"]
    assert "--host 127.0.0.1 --port $PORT --slot-save-path " in found["runs"]
    assert (found["context"], found["slots"]) == (512, 2)


@pytest.mark.parametrize(
    ("store", "said"), [("disk", "{state}/sessions"), ("memory", "/dev/shm/roundhouse"), ("off", None)]
)
def test_d11_whether_conversations_are_kept_is_told_and_stands_in_the_command(
    write, tmp_path, llama_server, store, said
):
    tiny, state = write_tiny_chat(tmp_path / "tiny.gguf", "alpha"), tmp_path / "state"
    text = (
        f"sessions: {{store: {store}}}\n"
        f"engines: {{llamacpp: {{binary: {llama_server}}}}}\n"
        f"models:\n  a: {{path: {tiny}}}\n  b: {{path: {tiny}, sessions: false}}\n"
    )
    shown = run("check", "--json", "-c", write(text))
    kept, not_kept = shown.json["models"]
    if said is None:
        assert (kept["conversations"], not_kept["conversations"]) == ("", "")
    else:
        assert f"--slot-save-path {said.format(state=state)}" in kept["runs"]
        assert kept["conversations"] == "kept across switches"
        assert not_kept["conversations"] == "not kept across switches: they are switched off (`sessions`)"
    assert "--slot-save-path" not in not_kept["runs"]
    assert not state.exists()


def test_each_flag_of_a_profile_is_explained(write, tmp_path, llama_server):
    model = write_tiny_chat(tmp_path / "tiny.gguf", "alpha")
    text = f"""
engines: {{llamacpp: {{binary: {llama_server}}}}}
models:
  quick: {{path: {model}, profile: fast-start, pinned: true}}
  own: {{path: {model}, profile: fast-start, args: [--warmup]}}
  mine: {{command: serve, memory: 1GiB, profile: fast-answers}}
"""
    shown = run("check", "-c", write(text))
    assert "  profile  fast-start\n           --no-warmup: ready without" in shown.out
    assert "; costs: the first answer does that work instead" in shown.out
    assert "fast-start, here the same as balanced: `args` decide the rest" in shown.out
    assert "it is pinned" in shown.out
    assert "`profile: fast-answers` changes nothing" in shown.out
    quick, own, mine = run("check", "--json", "-c", write(text)).json["models"]
    assert (quick["profile"], [one["words"] for one in quick["choices"]]) == ("fast-start", ["--no-warmup"])
    assert quick["choices"][0]["buys"].startswith("ready without")
    assert (own["profile"], own["choices"]) == ("fast-start", [])
    assert (quick["as_balanced"], own["as_balanced"]) == (False, True)
    assert (mine["profile"], mine["choices"]) == (None, [])


def test_broken_files_are_problems_and_no_error(write, tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"not a model at all")
    shown = run("check", "-c", write("models: {bad: {path: bad.gguf}, gone: {path: gone.gguf}}\n"))
    assert shown.code == 0, shown.err
    assert "problem  " in shown.out
    assert "bad.gguf" in shown.out
    assert "gone.gguf does not exist" in shown.out
    assert "2 models; 2 of them can't be loaded as things are." in shown.out


def test_impossible_memory_is_an_error_when_written_and_a_problem_when_estimated(write, tmp_path):
    model = write_tiny_chat(tmp_path / "tiny.gguf", "alpha")
    shown = run("check", "-c", write("devices: {ram: 1MiB}\nmodels: {a: {command: x, memory: 2MiB}}\n"))
    assert shown.code == 2
    assert "models.a.memory" in shown.err
    shown = run("check", "-c", write(f"devices: {{ram: 1MiB}}\nmodels: {{a: {{path: {model}}}}}\n"))
    assert shown.code == 0
    assert "which has 1 MiB for models" in shown.out


def test_settings_without_effect_are_told(write):
    shown = run("check", "-c", write("models: {a: {url: 'http://127.0.0.1:9', max_instances: 2}}\n"))
    assert shown.code == 0
    assert "warning: models.a.max_instances: one engine per model runs" in shown.out


def test_check_is_plain_where_there_is_no_terminal(write):
    shown = run("check", "-c", write("models: {a: {url: 'http://127.0.0.1:9'}}\n"))
    assert "\x1b" not in shown.out + shown.err
    assert shown.err == ""


def test_g4_advice_stands_beside_its_model(write, tmp_path):
    script = tmp_path / "start.sh"
    script.write_text("#!/bin/sh\nserve --host 0.0.0.0 --port 30001\n")
    script.chmod(0o755)
    file = write(
        f"models: {{a: {{script: {script}, engine: openai, port: 30000}}, b: {{url: 'http://127.0.0.1:9'}}}}\n"
    )
    shown = run("check", "-c", file)
    assert shown.code == 0, shown.err
    lines = shown.out.partition("\nb\n")[0].splitlines()
    advice = [line for line in lines if line.startswith("  advice")]
    assert any("write --host 127.0.0.1" in line for line in advice)
    assert any("set `port: 30001`" in line for line in advice)
    assert "\n  advice" not in shown.out.partition("\nb\n")[2]
    found = run("check", "--json", "-c", file).json["models"]
    assert len(found[0]["advice"]) == len(advice)
    assert found[1]["advice"] == []
