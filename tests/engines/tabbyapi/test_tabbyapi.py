"""The description as a whole: commands, readiness, adoption, files; commands are proven by starting the double with them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from roundhouse.engines.tabbyapi import TabbyAPI
from roundhouse.ports import Build, Engine, Served
from tests.engines import models
from tests.engines.tabbyapi.doubles import Chat, free_port, running, until
from tests.engines.tabbyapi.samples import capture, facts, tabby_model
from tests.support.tabby_checkout import ADMIN, make_checkout, make_model
from tests.support.talker import Talker

ENGINE: Engine = TabbyAPI()
BUILD = Build(("/srv/tabbyAPI/venv/bin/python",))


def command(**said):
    model = said.pop("model", None)
    return ENGINE.command(tabby_model(model=model, **said), facts(), BUILD, 5123)


def test_c2_python_runs_main_in_the_checkout_and_only_on_this_machine():
    found = command()
    assert found.argv == ("/srv/tabbyAPI/venv/bin/python", "main.py")
    assert found.cwd == "/srv/tabbyAPI"
    assert found.env["TABBY_NETWORK_HOST"] == "127.0.0.1"
    assert found.env["TABBY_NETWORK_PORT"] == "5123"
    assert found.env["TABBY_LOG_CONSOLE_WIDTH"] == "300"
    assert found.edits == ()


def test_c2_what_the_user_gives_comes_last():
    found = command(
        model={
            "args": ("--gpu-split", "10", "12"),
            "env": {"TABBY_LOG_LEVEL": "WARNING", "TABBY_LOG_CONSOLE_WIDTH": "80"},
        }
    )
    assert found.argv[2:] == ("--gpu-split", "10", "12")
    assert found.env["TABBY_LOG_LEVEL"] == "WARNING"
    assert found.env["TABBY_LOG_CONSOLE_WIDTH"] == "80"


def test_c3_a_unit_is_named():
    assert command(model={"service": "tabbyapi.service"}).unit == "tabbyapi.service"


def test_trap_a_model_name_in_config_yml_is_not_loaded_at_the_start(tmp_path):
    def laid(checkout):
        config = checkout / "config.yml"
        config.write_text(config.read_text().replace("model_name:", "model_name: gone"))

    with running(tmp_path, laid=laid) as one:
        assert one.card() is None
        assert one.notes("start")[0]["model_dir"] == str(one.models)
        assert "model_name: gone" in (one.checkout / "config.yml").read_text()  # theirs, and not ours to change


def test_c6_config_mode_changes_the_file_and_the_model_is_in_before_the_port_opens(tmp_path):
    with running(
        tmp_path, tabby={"mode": "config", "max_seq_len": 4096, "cache_mode": "Q8", "options": {"gpu_split": [10]}}
    ) as one:
        text = (one.checkout / "config.yml").read_text()
        assert "model_name: A-exl3\n" in text
        assert "gpu_split: [10]" in text
        assert "disable_auth: false   # never on a LAN" in text
        reply = one.talker.ask("GET", "/v1/model")
        assert ENGINE.is_ready(reply.status, reply.body)
        assert ENGINE.serves(one.model(mode="config", max_seq_len=4096, cache_mode="Q8"), {"/v1/model": reply.body})
        assert not ENGINE.serves(one.model("B-exl3", mode="config"), {"/v1/model": reply.body})
        assert ENGINE.loads(one.model(mode="config")) is None


def test_trap_a_load_that_fails_at_the_start_ends_the_process_with_words(tmp_path):
    models = {"A-exl3": {"oom_after": 0}}
    with running(tmp_path, models=models, tabby={"mode": "config"}, wait=False) as one:
        assert one.process.wait(30) == 1
        assert ENGINE.failure(one.output().splitlines()).startswith("not enough GPU memory")


def test_trap_a_cache_mode_that_config_yml_does_not_take_ends_the_process_with_words(tmp_path):
    with running(tmp_path, tabby={"mode": "config", "cache_mode": "Q5"}, wait=False) as one:
        assert one.process.wait(30) == 1
        assert "model.cache_mode of its config.yml" in ENGINE.failure(one.output().splitlines())


def test_trap_unquoted_digits_as_key_end_the_process_with_words(tmp_path):
    def laid(checkout):
        (checkout / "api_tokens.yml").write_text("api_key: a\nadmin_key: 123456\n")

    with running(tmp_path, laid=laid, wait=False) as one:
        assert one.process.wait(30) == 1
        assert "texts in quotes" in ENGINE.failure(one.output().splitlines())


def test_trap_a_taken_port_is_left_for_the_next_one_and_the_log_tells(tmp_path):
    port = free_port()
    with running(tmp_path / "a", port=port), running(tmp_path / "b", port=port) as second:
        assert second.notes("start")[0]["port"] == port + 1
        assert f"port {port} is taken by another program" in ENGINE.failure(second.output().splitlines())


def test_trap_broken_yaml_starts_with_defaults(tmp_path):
    checkout = make_checkout(tmp_path / "t", port=free_port())
    (checkout / "config.yml").write_text("model: [\n")
    port = free_port()
    with (checkout / "out").open("w") as out:
        env = {**os.environ, "TABBY_NETWORK_PORT": str(port)}
        process = subprocess.Popen(
            [checkout / "venv/bin/python", "main.py"], cwd=checkout, env=env, stdout=out, stderr=out
        )
    try:
        until(lambda: Talker(port, ADMIN).ask("GET", "/health").status == 200)
    finally:
        process.kill()
        process.wait()
    assert "is not YAML" in ENGINE.failure((checkout / "out").read_text().splitlines())


# --- readiness and what is served ---


@pytest.mark.parametrize(
    ("name", "ready"),
    [
        ("01-health.txt", True),
        ("82-health-unhealthy.txt", True),
        ("31-model-loaded.txt", True),
        ("08-model-none.txt", False),
        ("57-unload.txt", False),
    ],
)
def test_c4_readiness_of_the_real_server(name, ready):
    assert ENGINE.is_ready(*capture(name)) is ready


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b'{"status":"ok"}'),
        (503, b'{"error":{"message":"Loading model"}}'),
        (500, b'{"status":"healthy"}'),
    ],
)
def test_c4_others_are_not_taken_for_it(status, body):
    assert not ENGINE.is_ready(status, body)


def test_c4_where_readiness_is_asked():
    assert ENGINE.ready_paths(tabby_model()) == ("/health",)
    assert ENGINE.ready_paths(tabby_model(mode="config")) == ("/v1/model",)
    assert ENGINE.ready_paths(tabby_model(model={"health": "/x"})) == ("/x",)


def test_d6_what_the_card_tells():
    assert ENGINE.served({"/v1/model": capture("31-model-loaded.txt")[1]}) == Served(128, 16384, "Fake-8B-exl3-4.0bpw")
    assert ENGINE.served({}) == Served()
    assert ENGINE.facts_paths == ("/v1/model",)


def test_e1_a_process_without_a_model_serves_none():
    assert not ENGINE.serves(tabby_model(), {})


# --- keys ---


def test_f_keys_that_the_engine_describes_open_the_door(tmp_path):
    keys = ENGINE.keys(tabby_model(tmp_path / "tabbyAPI"))
    assert keys.path == tmp_path / "tabbyAPI/api_tokens.yml"
    made = iter(["1" * 32, "2" * 32])  # digits alone, which must be quoted

    def laid(checkout):
        keys.path.write_text(keys.fresh(lambda: next(made)))

    with running(tmp_path, keys=False, laid=laid) as one:
        reply = Talker(one.port, keys.read(keys.path.read_text())).ask("GET", "/v1/auth/permission")
        assert json.loads(reply.body) == {"permission": "admin"}


def test_the_engines_own_key_file_is_read_too(tmp_path):
    with running(tmp_path, keys=False) as one:
        key = ENGINE.keys(one.model()).read((one.checkout / "api_tokens.yml").read_text())
        assert Talker(one.port, key).ask("GET", "/v1/model").status == 503


# --- the rest ---


def test_facts_come_from_the_models_folder():
    assert ENGINE.source(tabby_model(name="sub/A")) == Path("/srv/models/sub/A")


def test_d1_footprint_needs_facts():
    assert ENGINE.footprint(tabby_model(), None) is None
    assert ENGINE.footprint(tabby_model(), facts(weights=0)) is None
    assert ENGINE.footprint(tabby_model(), facts()) > 13_500_000_000


@pytest.mark.parametrize(("version", "refused"), [("84bb1ce", False), ("79126f9", False), ("e632af4", True)])
def test_trap_the_checkout_shows_whether_it_has_exl2(tmp_path, version, refused):
    checkout = make_checkout(tmp_path / "t", version)
    make_model(checkout / "models", "E", "exl2")
    model = tabby_model(checkout, checkout / "models", "E")
    present = frozenset(path for path in ENGINE.witnesses(model) if path.exists())
    told = ENGINE.objection(model, facts(format="exl2"), present)
    assert (told is not None and "EXL2" in told) is refused


# --- what the dialects are told by the double: the shapes of the real server ---


@pytest.mark.parametrize("version", ["84bb1ce", "79126f9", "e632af4"])
def test_trap_usage_comes_only_when_asked_for(tmp_path, version):
    with running(tmp_path, version) as one:
        one.load()
        for asked in ({}, {"stream_options": {"include_usage": True}}):
            chat = Chat(one, **asked)
            until(chat.ended.is_set)
            assert any('"prompt_tokens"' in event for event in chat.events) is bool(asked)


def test_trap_a_wrong_model_is_answered_by_the_loaded_one_and_none_is_a_crash(tmp_path):
    with running(tmp_path) as one:
        body = b'{"model":"B-exl3","messages":[]}'
        crash = one.talker.ask("POST", "/v1/chat/completions", body)
        assert (crash.status, crash.body) == (500, b"Internal Server Error")
        assert one.talker.ask("POST", "/v1/chat/completions", b'{"messages":[]}').status == 503
        one.load()
        assert json.loads(one.talker.ask("POST", "/v1/chat/completions", body).body)["model"] == "A-exl3"


def test_c7_a_start_script_runs_what_it_will_and_its_model_is_taken_as_it_is():
    scripted = models.model(engine="tabbyapi", path=None, script=Path("/srv/start.sh"))
    assert ENGINE.ready_paths(scripted) == ("/v1/model",)
    assert ENGINE.serves(scripted, {"/v1/model": capture("31-model-loaded.txt")[1]})
    assert not ENGINE.serves(scripted, {})
    assert ENGINE.loads(scripted) is None
    assert ENGINE.keys(scripted) is None
    assert ENGINE.witnesses(scripted) == ()
    assert ENGINE.objection(scripted, None, frozenset()) is None
    assert ENGINE.footprint(scripted, facts()) is None


def test_a_folder_without_a_checkout_to_load_it_is_refused_in_words():
    bare = models.model(engine="tabbyapi", path=Path("/srv/models/A"))
    assert "`tabby:`" in ENGINE.objection(bare, facts(), frozenset())
    assert ENGINE.source(bare) == Path("/srv/models/A")
