"""Talks against the double over real HTTP, and where the double can't, with scripted answers. One test per trap."""

from __future__ import annotations

import json
import signal
import socket
import threading

import pytest

from roundhouse.core.model import Progress
from roundhouse.engines.tabbyapi import TabbyAPI, talks
from roundhouse.engines.tabbyapi.stream import MOST
from roundhouse.errors import LoadFailed
from roundhouse.ports import Exchange, Reply
from tests.engines.tabbyapi.doubles import Chat, running, until
from tests.engines.tabbyapi.samples import capture, facts, tabby_model
from tests.support.tabby_checkout import ADMIN, API
from tests.support.talker import Talker, scripted

VERSIONS = ("84bb1ce", "79126f9", "e632af4")
OLD = VERSIONS[:2]
IDENTITY = [capture("02-serviceinfo.txt"), capture("09-permission-admin.txt")]
NONE = capture("08-model-none.txt")


def steps(model, answers):
    """All steps of a load with scripted answers: (status, body), bytes or None."""
    given = iter(Reply(*answer) if isinstance(answer, tuple) else answer for answer in answers)
    return list(scripted(talks.TabbyLoads().load(model, None), given))


def asked(found) -> list[str]:
    return [f"{step.method} {step.path}" for step in found if isinstance(step, Exchange)]


# --- the whole way ---


@pytest.mark.parametrize("version", VERSIONS)
def test_c6_models_are_loaded_one_after_another_into_one_process(tmp_path, version):
    with running(tmp_path, version) as one:
        for name in ("A-exl3", "B-exl3", "A-exl3"):
            told = one.load(name, facts(), max_seq_len=4096, cache_mode="Q8")
            assert one.card()["id"] == name
            assert one.card()["parameters"]["max_seq_len"] == one.card()["parameters"]["cache_size"] == 4096
            assert one.card()["parameters"]["cache_mode"] == "Q8"
            assert told[-1] == Progress(MOST, "ready")
        one.unload()
        assert one.card() is None
        one.unload()  # and once more, with nothing loaded
        assert one.process.poll() is None
        assert one.loads() == 3


def test_c5_percent_comes_module_by_module_while_it_loads(tmp_path):
    door = tmp_path / "gate"
    with running(tmp_path, models={"A-exl3": {"gate": str(door), "gate_after": 4}}) as one:
        model = one.model()
        talker = Talker(one.port, ADMIN)
        work = threading.Thread(target=talker.run, args=(TabbyAPI().loads(model).load(model, None),))
        work.start()
        until(lambda: Progress(0.5, "reading weights") in talker.told)
        assert one.card() is None
        door.touch()
        work.join(30)
        fractions = [told.fraction for told in talker.told if told.fraction is not None]
        assert fractions == sorted(fractions)
        assert max(fractions) == MOST


def test_vision_and_draft_are_parts_of_one_load(tmp_path):
    with running(tmp_path, models={"A-exl3": {"vision": True}, "D-exl3": {}}) as one:
        told = one.load(options={"vision": True, "draft_model": {"draft_model_name": "D-exl3"}})
        stages = list(dict.fromkeys(progress.stage for progress in told))
        assert stages == [
            "waiting for TabbyAPI", "reading the vision projector", "reading the draft model", "reading weights", "making it ready", "ready",
        ]  # fmt: skip


def test_the_exchange_with_the_real_server():
    model = tabby_model(name="Fake-8B-exl3-4.0bpw", max_seq_len=16384, cache_mode="Q8")
    _, stream = capture("30-load-8b.txt")
    found = steps(model, [*IDENTITY, NONE, (200, b""), stream, b"", capture("31-model-loaded.txt")])
    assert asked(found) == [
        "GET /.well-known/serviceinfo",
        "GET /v1/auth/permission",
        "GET /v1/model",
        "POST /v1/model/load",
        "GET /v1/model",
    ]
    load = next(step for step in found if isinstance(step, Exchange) and step.stream)
    assert json.loads(load.body) == {
        "model_name": "Fake-8B-exl3-4.0bpw",
        "max_seq_len": 16384,
        "cache_size": 16384,
        "cache_mode": "Q8",
    }


# --- who answers ---


def test_another_program_on_the_port_is_recognised():
    with pytest.raises(LoadFailed, match="is not TabbyAPI"):
        steps(tabby_model(), [(404, b'{"error":"not found"}')])


def test_nobody_answers():
    with pytest.raises(LoadFailed, match="does not answer"):
        steps(tabby_model(), [(0, b"")])


@pytest.mark.parametrize(
    ("key", "said"), [(None, "refuses our key"), ("wrong", "refuses our key"), (API, "only good for 'api'")]
)
def test_a_key_that_is_not_the_admin_key(tmp_path, key, said):
    with running(tmp_path) as one:
        model = one.model()
        with pytest.raises(LoadFailed, match=said) as failed:
            Talker(one.port, key).run(TabbyAPI().loads(model).load(model, None))
        assert "api_tokens.yml" in failed.value.message
        assert one.loads() == 0


def test_a_process_without_auth_needs_no_key(tmp_path):
    def laid(checkout):
        config = checkout / "config.yml"
        config.write_text(config.read_text().replace("disable_auth: false", "disable_auth: true"))

    with running(tmp_path, laid=laid) as one:
        model = one.model()
        Talker(one.port, None).run(TabbyAPI().loads(model).load(model, None))
        assert one.card()["id"] == "A-exl3"


# --- traps ---


@pytest.mark.parametrize("version", VERSIONS)
def test_trap_a_load_of_the_same_folder_with_other_settings_changes_nothing(tmp_path, version):
    with running(tmp_path, version) as one:
        one.load(max_seq_len=4096)
        raw = one.talker.ask("POST", "/v1/model/load", b'{"model_name":"A-exl3","max_seq_len":8192}')
        assert raw.status == 200
        assert one.card()["parameters"]["max_seq_len"] == 4096  # the trap
        one.load(max_seq_len=8192)
        assert one.card()["parameters"]["max_seq_len"] == 8192
        assert [note["by"] for note in one.notes("unloaded")] == ["unload"]


@pytest.mark.parametrize("version", OLD)
def test_trap_old_versions_take_folders_of_the_same_last_name_for_one(tmp_path, version):
    with running(tmp_path, version, models={"a/4.0bpw": {}, "b/4.0bpw": {}}) as one:
        one.load("a/4.0bpw")
        one.load("b/4.0bpw")
        assert [note["folder"] for note in one.notes("loaded")] == [
            str(one.models / name) for name in ("a/4.0bpw", "b/4.0bpw")
        ]


def test_what_is_loaded_as_wanted_is_not_loaded_again(tmp_path):
    with running(tmp_path) as one:
        one.load(max_seq_len=4096)
        one.load(max_seq_len=4096)
        assert one.loads() == 1


def test_trap_finished_comes_before_the_model_can_be_used(tmp_path):
    door = tmp_path / "gate"
    with running(tmp_path, models={"A-exl3": {"late_gate": str(door)}}) as one:
        model = one.model()
        talker = Talker(one.port, ADMIN)
        work = threading.Thread(target=talker.run, args=(TabbyAPI().loads(model).load(model, None),))
        work.start()
        until(lambda: talker.told and talker.told[-1].fraction == MOST)
        assert one.card() is None
        assert work.is_alive()
        door.touch()
        work.join(30)
        assert one.card()["id"] == "A-exl3"


def test_trap_a_load_that_ends_well_is_believed_only_with_the_models_card():
    _, stream = capture("77-load-lategen.txt")
    with pytest.raises(LoadFailed, match="after 30 s has no model"):
        steps(tabby_model(), [*IDENTITY, NONE, (200, b""), stream, b"", *[NONE] * talks.USABLE_POLLS])
    with pytest.raises(LoadFailed, match=r"has Fake-8B-exl3-4.0bpw loaded instead of A-exl3"):
        steps(
            tabby_model(),
            [*IDENTITY, NONE, (200, b""), stream, b"", *[capture("31-model-loaded.txt")] * talks.USABLE_POLLS],
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_trap_an_unload_hangs_streams(tmp_path, version):
    door = tmp_path / "never"
    with running(tmp_path, version) as one:
        one.load()
        chat = Chat(one, fake={"gate": str(door), "gate_after": 2})
        until(lambda: chat.texts() == 2)
        one.unload()
        until(lambda: one.notes("hangs"))
        assert one.card() is None
        assert not chat.ended.is_set()  # who asked must be told by others
        assert chat.texts() == 2
        chat.close()
        one.load("B-exl3")
        assert one.card()["id"] == "B-exl3"


def test_trap_a_load_waits_for_running_answers_whatever_skip_queue_says_so_it_is_unloaded_first(tmp_path):
    door = tmp_path / "door"
    with running(tmp_path) as one:
        one.load()
        chat = Chat(one, fake={"gate": str(door), "gate_after": 1})
        until(lambda: chat.texts() == 1)
        switch = threading.Thread(
            target=one.talker.ask, args=("POST", "/v1/model/load", b'{"model_name":"B-exl3","skip_queue":true}')
        )
        switch.start()
        parked = Chat(one)
        assert one.card()["id"] == "A-exl3"
        door.touch()
        switch.join(30)
        chat.ended.wait(30)
        assert chat.events[-1] == "data: [DONE]"
        assert one.card()["id"] == "B-exl3"
        parked.close()
        answer = Chat(one, fake={"gate": str(tmp_path / "never"), "gate_after": 1})
        until(lambda: answer.texts() == 1)
        one.load("A-exl3")  # the talk does not wait
        answer.close()
        assert one.card()["id"] == "A-exl3"


@pytest.mark.parametrize("version", VERSIONS)
def test_trap_exl2(tmp_path, version):
    with running(tmp_path, version, models={"A-exl3": {}, "E-exl2": {"method": "exl2"}}) as one:
        one.load()
        if version in OLD:
            one.load("E-exl2")
            assert one.card()["id"] == "E-exl2"
            return
        with pytest.raises(LoadFailed, match="can't load EXL2"):
            one.load("E-exl2")
        assert one.card() is None  # what was loaded is gone: hence the objection, before


def test_trap_health_stays_at_503_after_one_failed_answer_while_all_works(tmp_path):
    with running(tmp_path) as one:
        one.load()
        broken = Chat(one, fake={"error": True})
        until(broken.ended.is_set)
        one.load("B-exl3")
        reply = one.talker.ask("GET", "/health")
        assert reply.status == 503
        assert TabbyAPI().is_ready(reply.status, reply.body)
        chat = Chat(one)
        until(chat.ended.is_set)
        assert chat.events[-1] == "data: [DONE]"


def test_trap_a_models_tabby_config_wins_over_the_request_and_that_is_told(tmp_path):
    def laid(checkout):
        (checkout / "models/A-exl3/tabby_config.yml").write_text("model:\n  max_seq_len: 512\n  cache_size: 512\n")

    with running(tmp_path, laid=laid) as one:
        told = one.load(max_seq_len=4096)
        assert (
            told[-1].stage
            == "the model's tabby_config.yml says max_seq_len 512 instead of 4096, cache_size 512 instead of 4096"
        )
        assert one.loads() == 1


@pytest.mark.parametrize("version", OLD)
def test_in_old_versions_the_request_wins(tmp_path, version):
    def laid(checkout):
        (checkout / "models/A-exl3/tabby_config.yml").write_text("model:\n  max_seq_len: 512\n")

    with running(tmp_path, version, laid=laid) as one:
        assert one.load(max_seq_len=4096)[-1].stage == "ready"


# --- failures ---


@pytest.mark.parametrize("version", VERSIONS)
def test_d10_out_of_memory_is_told_as_such_and_the_next_load_works(tmp_path, version):
    with running(tmp_path, version, models={"A-exl3": {"oom_after": 3}, "B-exl3": {}}) as one:
        with pytest.raises(LoadFailed, match="not enough GPU memory"):
            one.load()
        assert one.card() is None
        one.load("B-exl3")
        assert one.card()["id"] == "B-exl3"


def test_a_model_that_is_not_there(tmp_path):
    with running(tmp_path) as one, pytest.raises(LoadFailed, match="finds no folder gone"):
        one.load("gone")


def test_figures_that_are_none(tmp_path):
    with running(tmp_path) as one, pytest.raises(LoadFailed, match="multiple of 256"):
        one.load(options={"cache_size": 1000})


def test_an_engine_that_dies_while_it_loads(tmp_path):
    with running(tmp_path, models={"A-exl3": {"die_after": 3}}) as one:
        with pytest.raises(LoadFailed, match="stopped answering while it loaded"):
            one.load()
        assert one.process.wait() == 9


def test_an_unload_that_hangs_is_told_so_that_the_process_can_be_restarted(tmp_path):
    with running(tmp_path, hang_unload=True) as one:
        one.load()
        with pytest.raises(LoadFailed, match="has to be restarted"):
            one.unload(patience=0.5)


def test_an_engine_that_keeps_its_model():
    loaded = capture("31-model-loaded.txt")
    answers = iter(
        Reply(*answer) for _ in range(talks.TRIES) for answer in [(200, b"null"), *[loaded] * talks.EMPTY_POLLS]
    )
    with pytest.raises(LoadFailed, match="keeps a model loaded"):
        list(scripted(talks.TabbyLoads().unload(tabby_model()), answers))


# --- connections ---


def test_trap_a_load_goes_on_without_its_client_and_asking_again_waits_for_it(tmp_path):
    with running(tmp_path, cut_load=3, models={"A-exl3": {"delay": 0.01}}) as one:
        one.load(max_seq_len=4096)
        assert one.notes("cut")
        assert one.loads() == 1
        assert one.card()["id"] == "A-exl3"


@pytest.mark.parametrize("version", OLD)
def test_trap_old_versions_give_a_load_up_with_its_client_so_it_is_asked_for_again(tmp_path, version):
    with running(tmp_path, version, cut_load=3, models={"A-exl3": {"delay": 0.01}}) as one:
        one.load(max_seq_len=4096)
        assert one.notes("cut")
        assert one.loads() == 2
        assert one.card()["id"] == "A-exl3"


def test_trap_a_load_under_way_can_not_be_seen_and_the_next_one_waits_for_it(tmp_path):
    door = tmp_path / "gate"
    with running(tmp_path, models={"A-exl3": {"gate": str(door)}, "B-exl3": {}}) as one:
        line = socket.create_connection(("127.0.0.1", one.port))
        body = b'{"model_name":"A-exl3","max_seq_len":512}'
        line.sendall(
            b"POST /v1/model/load HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
            % (ADMIN.encode(), len(body), body)
        )
        until(one.loads)
        line.close()
        one.unload()  # 503, and the load goes on
        model = one.model(max_seq_len=4096)
        talker = Talker(one.port, ADMIN)
        work = threading.Thread(target=talker.run, args=(TabbyAPI().loads(model).load(model, None),))
        work.start()
        until(lambda: "POST /v1/model/load" in talker.asked)
        assert one.card() is None
        door.touch()
        work.join(30)
        assert one.card()["parameters"]["max_seq_len"] == 4096  # not the 512 of the load before: seen, and loaded again


def test_an_engine_that_is_lost_for_good():
    lost = [*IDENTITY, NONE, (200, b""), None]
    with pytest.raises(LoadFailed, match="stopped answering while it loaded"):
        steps(tabby_model(), [*lost, *[(0, b"")] * talks.LOST_POLLS])
    again = [*IDENTITY, NONE, *[item for _ in range(talks.TRIES) for item in ((200, b""), None, NONE)]]
    with pytest.raises(LoadFailed, match="in 3 tries"):
        steps(tabby_model(), again)


def test_trap_already_loaded_is_an_error_event_in_an_old_version_and_good_news():
    """Another program has loaded it between our look and our load."""
    model = tabby_model(name="Fake-8B-exl3-4.0bpw", max_seq_len=16384, cache_mode="Q8")
    event = b'data: {"error":{"message":"Model \\"Fake-8B-exl3-4.0bpw\\" is already loaded! Aborting.","trace":null}}\r\n\r\n'
    found = steps(model, [*IDENTITY, NONE, (200, b""), event, b"", capture("31-model-loaded.txt")])
    assert found[-1] == Progress(MOST, "ready")
    nothing = steps(model, [*IDENTITY, NONE, (200, b""), b"", capture("31-model-loaded.txt")])  # the version after it
    assert nothing[-1] == Progress(MOST, "ready")


def test_a_refusal_is_read_whole():
    status, body = capture("11-load-apikey.txt")
    with pytest.raises(LoadFailed, match="Invalid admin key"):
        steps(tabby_model(), [*IDENTITY, NONE, (status, b""), body[:9], body[9:], b""])


def test_c6_models_of_one_checkout_and_port_share_a_process():
    of = talks.TabbyLoads().process
    assert of(tabby_model(name="A")) == of(tabby_model(name="B", cache_mode="Q4"))
    assert of(tabby_model(model={"port": 5000})) != of(tabby_model(model={"port": 5001}))
    assert of(tabby_model(model={"service": "tabby.service"})) != of(tabby_model())
    assert of(tabby_model(model={"args": ("--gpu-split", "10")})) != of(tabby_model())
    assert of(tabby_model(model={"env": {"CUDA_VISIBLE_DEVICES": "1"}})) != of(tabby_model())
    assert of(tabby_model(model_dir=tabby_model().tabby.dir)) != of(tabby_model())


def test_sigterm_ends_it_unless_it_is_deaf(tmp_path):
    with running(tmp_path / "a") as one:
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(30) == 0
    with running(tmp_path / "b", deaf=True) as one:
        one.process.send_signal(signal.SIGTERM)
        until(lambda: one.notes("deaf"))
        assert one.process.poll() is None
