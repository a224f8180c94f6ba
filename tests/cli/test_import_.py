import stat

import pytest

from tests.cli.commands import run
from tests.support.import_sources import Store, capture, original


def test_c7_the_original_s_models_are_written_and_check_takes_them(tmp_path):
    output = tmp_path / "roundhouse.yaml"
    shown = run("import", str(original(tmp_path)), "--output", str(output), HOME=str(tmp_path))
    assert shown.code == 0, shown.err
    assert shown.out == ""
    assert f"imported 8 models from {tmp_path}/model_router_blackwell.py (original). Wrote {output}." in shown.err
    assert "magnum-v4-123b-awq: " in shown.err
    assert "sleep-on-idle" in shown.err
    checked = run("check", "--json", "-c", str(output), HOME=str(tmp_path))
    assert checked.code == 0, checked.err
    assert len(checked.json["models"]) == 8
    assert stat.S_IMODE(output.stat().st_mode) & 0o077 == 0o077 & ~umask() & 0o044


def umask():
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_without_an_output_the_text_is_printed_and_the_summary_is_not_in_it(tmp_path):
    shown = run("import", str(capture("config_json", tmp_path) / "config.json"), HOME=str(tmp_path))
    assert shown.code == 0, shown.err
    again = tmp_path / "again.yaml"
    again.write_text(shown.out)
    assert run("check", "-c", str(again), HOME=str(tmp_path)).code == 0
    assert "not carried over: backends.sglang.host gpu-box" in shown.err


def test_a_file_that_is_there_stays_as_it_is_unless_forced(tmp_path):
    source, output = original(tmp_path), tmp_path / "mine.yaml"
    output.write_text("mine")
    refused = run("import", str(source), "-o", str(output), HOME=str(tmp_path))
    assert refused.code == 4
    assert "--force" in refused.err
    assert output.read_text() == "mine"
    assert run("import", str(source), "-o", str(output), "--force", HOME=str(tmp_path)).code == 0
    assert "mistral-large" in output.read_text()
    assert [path.name for path in tmp_path.iterdir() if "mine" in path.name] == ["mine.yaml"]


def test_f4_keys_are_not_shown_and_their_file_is_its_owner_s(tmp_path):
    output = tmp_path / "out.yaml"
    source = capture("llama_swap", tmp_path) / "config.yaml"
    shown = run(
        "import", str(source), "-o", str(output), HOME=str(tmp_path), SWAP_KEY="sk-second-of-two", PEER_KEY="sk-peer"
    )
    assert shown.code == 0, shown.err
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    for secret in ("sk-first", "sk-second", "sk-peer", "sha256:"):
        assert secret not in shown.out + shown.err
    assert "sk-" not in output.read_text()
    assert "needs in its environment: ENGINE_KEY, PEER_KEY" in shown.err


def test_a_forced_write_narrows_who_may_read_the_file(tmp_path):
    output = tmp_path / "out.yaml"
    output.write_text("")
    output.chmod(0o666)
    source = tmp_path / "swap.yaml"
    source.write_text("peers: {p: {proxy: 'http://x', apiKey: sk-1, models: [m]}}\n")
    assert run("import", str(source), "-o", str(output), "--force").code == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_json_has_everything(tmp_path):
    store = Store(tmp_path / ".ollama/models")
    store.add("registry.ollama.ai/library/llama3.2/3b", store.layer("model", b"GGUF"), store.layer("system", b"x"))
    shown = run("import", str(tmp_path / ".ollama"), "--json")
    assert shown.code == 0, shown.err
    assert shown.json["from"] == "ollama"
    assert shown.json["models"] == ["llama3.2:3b"]
    assert shown.json["not_carried_over"] == ["llama3.2:3b: the system prompt; clients send their own"]
    assert shown.json["output"] is None
    assert '"llama3.2:3b":' in shown.json["config"]
    assert shown.err == ""
    assert run("import", str(tmp_path / ".ollama"), "--json", "-o", str(tmp_path / "o")).json["config"] is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("router.py", "MODELS = dict(a=1)\n", "router.py:1: MODELS: `dict(a=1)` would have to be run"),
        ("config.json", "{", "config.json:1: is not JSON"),
        (
            "swap.yaml",
            "models: {a: {cmd: 'x ${PORT}', aliases: [b]}, b: {cmd: 'x ${PORT}'}}\n",
            "makes no valid configuration",
        ),
        ("router.txt", "", "say it with --from"),
    ],
)
def test_what_is_wrong_exits_2_and_writes_nothing(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    shown = run("import", str(tmp_path / name), "-o", str(tmp_path / "out.yaml"), HOME=str(tmp_path))
    assert shown.code == 2
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "out.yaml").exists()


def test_what_a_source_is_can_be_said(tmp_path):
    (tmp_path / "router.txt").write_text("MODELS = {}")
    assert run("import", str(tmp_path / "router.txt"), "--from", "original").code == 0
    shown = run("import", str(tmp_path), "--from", "folder", "--inline")
    assert shown.code == 2
    assert "--inline" in shown.err


def test_where_nothing_can_be_written(tmp_path):
    source = original(tmp_path)
    assert "is a folder" in run("import", str(source), "-o", str(tmp_path)).err
    shown = run("import", str(source), "-o", str(tmp_path / "no/out.yaml"))
    assert shown.code == 1
    assert "No such file" in shown.err
