"""The command: how findings are shown, what it exits with, and that it never shows a traceback or a secret."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import run

KEYS = {"severity", "about", "what", "remedy", "check"}


@pytest.fixture
def box(tmp_path):
    """A configuration, and an environment in which only it is found."""
    (tmp_path / "run").mkdir()

    def made(*options, **settings):
        told = {"listen": "127.0.0.1:1", "state_dir": str(tmp_path / "state"), "models": {}} | settings
        (tmp_path / "roundhouse.yaml").write_text(json.dumps(told))
        environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
        return run("doctor", "--config", str(tmp_path / "roundhouse.yaml"), *options, **environ)

    return made


def theirs(**more):
    return {"theirs": {"url": "http://127.0.0.1:9/v1"} | more}


def test_g4_nothing_wrong_exits_with_0(box):
    shown = box(models=theirs())
    assert shown.code == 0, shown.out
    assert "no errors" in shown.out or "Nothing is wrong." in shown.out
    assert "✓ theirs: " in shown.out
    assert "Traceback" not in shown.out + shown.err


def test_g4_an_error_exits_with_1_and_stands_beside_its_remedy(box):
    shown = box(
        models={"m": {"path": "/none.gguf", "engine": "openai"}, "s": {"script": "/none.sh", "engine": "openai"}}
    )
    assert shown.code == 1
    lines = shown.out.splitlines()
    at = next(number for number, line in enumerate(lines) if "✗ s: It can't be loaded" in line)
    assert "/none.sh does not exist" in lines[at]
    assert lines[at + 1].startswith("      → ")


def test_g4_json_has_one_object_for_each_finding(box):
    found = json.loads(box("--json", models=theirs()).out)
    assert all(finding.keys() == KEYS for finding in found)
    assert {"roundhouse", "addresses", "models", "storage"} <= {finding["check"] for finding in found}


def test_g4_a_configuration_that_can_not_be_used(box):
    shown = box("--json", modles={})
    assert shown.code == 2
    found = json.loads(shown.out)
    assert (found[0]["check"], found[0]["severity"]) == ("configuration", "error")
    assert ":1: modles" in found[0]["what"]
    assert any(finding["check"] == "gpus" for finding in found)


def test_no_configuration_at_all(tmp_path):
    shown = run("doctor", cwd=tmp_path, HOME=str(tmp_path), XDG_CONFIG_HOME="")
    assert shown.code == 2
    assert "roundhouse init" in shown.out


def test_b10_a_process_is_ended_only_together_with_fix(box):
    shown = box("--end-pid", "1")
    assert shown.code == 2
    assert "--fix" in shown.err


def test_b10_a_process_that_is_not_in_our_way(box):
    shown = box("--fix", "--end-pid", "1")
    assert shown.code == 1
    assert "nothing was ended" in shown.err


def test_f4_secrets_are_hidden(box):
    shown = box(models={"m": {"script": "/none/topsecret1.sh", "engine": "openai", "api_key": "topsecret1"}})
    assert "/none/" in shown.out
    assert "topsecret1" not in shown.out + shown.err
