"""The description as a whole: command lines, readiness, facts."""

from pathlib import Path
from typing import Any

import pytest

from roundhouse.engines import ENGINES
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.ports import Build, Place, Served
from roundhouse.runtime.binaries import flags_in
from tests.engines.models import CAPTURES, NONE, ONE, embedder, llama_8b, model

B10434 = Build(("/opt/llama-server",), "10434", flags_in((CAPTURES / "help-b10434.txt").read_text()))


def words(build: Build = B10434, facts=None, **settings: Any) -> list[str]:
    return list(LlamaCpp().command(model(**settings), facts or llama_8b(), build, 4711).argv)


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_it_is_known_by_its_name():
    assert ENGINES["llamacpp"].name == "llamacpp"
    assert ENGINES["llamacpp"].streams_to_abort


def test_c2_the_whole_command_line():
    assert words(context=4096, slots=2) == [
        "/opt/llama-server", "-m", "/models/m.gguf", "--alias", "m", "-c", "8192", "-np", "2", "-lv", "4",
        "--jinja", "--cors-origins", "http://127.0.0.1:4711", "-fit", "off", "--host", "127.0.0.1", "--port", "4711",
    ]  # fmt: skip


def test_a5_it_serves_the_name_that_was_configured():
    assert after(words(served_name="other"), "--alias") == "other"


def test_c2_only_flags_that_the_build_knows():
    old = Build(("s",), "", frozenset({"-m", "-c", "-np", "-ngl"}))
    argv = words(old, context=4096, slots=1)
    assert argv == [
        "s", "-m", "/models/m.gguf", "-c", "4096", "-np", "1", "-ngl", "999", "--host", "127.0.0.1", "--port", "4711",
    ]  # fmt: skip


def test_d1_only_builds_that_hide_the_sizes_of_buffers_are_told_to_list_them():
    known = frozenset({"-lv", "-m"})
    assert "-lv" not in words(Build(("s",), "", known))
    assert after(words(Build(("s",), "", known | {"--load-mode"})), "-lv") == "4"


def test_c2_another_name_of_a_flag_where_the_build_has_only_that():
    argv = words(Build(("s",), "", frozenset({"--model", "-a"})))
    assert argv[:5] == ["s", "--model", "/models/m.gguf", "-a", "m"]


@pytest.mark.parametrize(
    ("args", "absent"),
    [
        (("--ctx-size", "99"), "-c"),
        (("--parallel", "9"), "-np"),
        (("--fit", "on"), "-fit"),
        (("--no-jinja",), "--jinja"),
        (("-a", "x"), "--alias"),
        (("-lv", "3"), "4"),
        (("--log-disable",), "-lv"),
        (("--cors-origins", "*"), "http://127.0.0.1:4711"),
    ],
)
def test_c2_what_the_user_gives_wins(args, absent):
    argv = words(args=args)
    assert absent not in argv
    assert list(args) == argv[-4 - len(args) : -4]


def test_c2_the_address_is_ours_even_against_the_users_args():
    assert words(args=("--port", "1", "--host", "0.0.0.0"))[-4:] == ["--host", "127.0.0.1", "--port", "4711"]


def test_embedding_and_rerank_models_get_their_mode_and_take_inputs_as_long_as_their_context():
    argv = words(facts=embedder())
    assert "--embeddings" in argv
    assert "--jinja" not in argv
    assert after(argv, "-b") == after(argv, "-ub") == "512"
    assert "--reranking" in words(facts=embedder(), kind="rerank")


def test_the_vision_projector():
    assert after(words(mmproj=Path("/models/mmproj.gguf")), "--mmproj") == "/models/mmproj.gguf"
    assert "--mmproj" not in words()


@pytest.mark.parametrize(
    ("profile", "last"),
    [
        ("fast-start", ["-fit", "off", "--no-warmup"]),
        ("balanced", ["-fit", "off"]),
        ("fast-answers", ["-fit", "off", "-lm", "mmap+mlock"]),
    ],
)
def test_profiles(profile, last):
    argv = words(profile=profile)
    assert argv[argv.index("-fit") : -4] == last


def test_a_profile_uses_the_names_that_the_build_has():
    old = Build(("old",), "b1", frozenset({"-m", "--mlock"}))
    assert "--mlock" in words(build=old, profile="fast-answers")
    assert "-fit" not in words(build=old, profile="fast-answers")
    assert "--no-warmup" not in words(build=old, profile="fast-start")


@pytest.mark.parametrize("own", [("--warmup",), ("--no-warmup",)])
def test_a_profile_leaves_alone_what_the_user_says(own):
    assert words(profile="fast-start", args=own).count("--no-warmup") == own.count("--no-warmup")


@pytest.mark.parametrize("own", [("--load-mode", "none"), ("--no-mmap",), ("--mlock",), ("-dio",)])
def test_a_profile_leaves_the_load_mode_alone(own):
    assert "mmap+mlock" not in words(profile="fast-answers", args=own)


def test_what_lies_on_a_gpu_is_not_locked_in_ram():
    made = model(profile="fast-answers")
    for place, locked in ((ONE, False), (NONE, True), (None, True), (Place(free=True), False)):
        argv = LlamaCpp().command(made, llama_8b(), B10434, 1, place).argv
        told = [choice.words for choice in LlamaCpp().choices(made, None, B10434, place)]
        assert ("mmap+mlock" in argv) is ("-lm mmap+mlock" in told) is locked


def test_choices_tell_each_flag_of_the_profile_that_is_said():
    def told(**settings: Any):
        return [choice.words for choice in LlamaCpp().choices(model(**settings), None, B10434)]

    assert told(profile="fast-answers") == ["-fit off", "-lm mmap+mlock"]
    assert told(profile="fast-start", args=("--warmup", "--fit", "on")) == []
    assert all(one.buys and one.costs for one in LlamaCpp().choices(model(profile="fast-start"), None, B10434))


def test_progress_mode_only_where_a_keeper_holds_stdin():
    def env(**settings: Any):
        return dict(LlamaCpp().command(model(**settings), None, B10434, 1).env)

    assert env() == {"LLAMA_SERVER_ROUTER_PORT": "1"}
    assert env(launcher="systemd", service="x.service") == {}
    assert env(launcher="attached") == {}
    assert env(env={"A": "b"}) == {"LLAMA_SERVER_ROUTER_PORT": "1", "A": "b"}


def test_it_ends_with_its_stdin_where_it_is_in_progress_mode():
    def ends(build: Build = B10434, **settings: Any):
        return LlamaCpp().command(model(**settings), None, build, 1).eof_ends

    assert ends()
    assert not ends(launcher="systemd", service="x.service")
    assert not ends(env={"LLAMA_SERVER_ROUTER_PORT": "0"})
    assert not ends(Build(("old",), "", frozenset({"-m"})))  # before there was a router


def test_c4_ready_is_200_and_its_own_word():
    engine = LlamaCpp()
    assert engine.ready_paths(model()) == ("/health",)
    assert engine.ready_paths(model(health="/v1/health")) == ("/v1/health",)
    assert engine.is_ready(200, b'{"status":"ok"}')
    loading = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
    assert not engine.is_ready(503, loading)
    assert not engine.is_ready(200, b"<html>another program</html>")


def test_served_is_what_props_say():
    assert LlamaCpp().served({"/props": (CAPTURES / "props.json").read_bytes()}) == Served(
        slots=2, context=2048, build="b1-7e4c0a9"
    )


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"nonsense", b'{"total_slots":"x","default_generation_settings":{}}']
)
def test_props_that_are_not_understood_say_nothing(body: bytes):
    assert LlamaCpp().served({"/props": body}) == Served()
    assert LlamaCpp().served({}) == Served()
