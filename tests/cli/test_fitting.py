import json
import sqlite3

import pytest

from tests.cli.commands import run_here
from tests.support.gguf_files import write_tiny_chat


@pytest.fixture
def place(tmp_path, llama_server):
    """Writes a configuration of two models that are files, and runs `models check` with it."""
    folder = tmp_path / "models"
    folder.mkdir()
    with write_tiny_chat(folder / "tiny.gguf", "alpha").open("ab") as file:
        file.write(bytes(9 << 20))  # the speed of a disk shows in files of some size only
    write_tiny_chat(folder / "wide.gguf", "beta", n_ctx=65536)

    def made(*arguments, more="", **env):
        file = tmp_path / "roundhouse.yaml"
        file.write_text(
            f"state_dir: {tmp_path / 'state'}\nmodels_dir: {folder}\n"
            f"engines: {{llamacpp: {{binary: {llama_server}}}}}\ndevices: {{ram: 100MiB}}\n{more}"
        )
        return run_here("models", "check", *arguments, "-c", str(file), **env)

    made.folder = folder
    return made


def test_all_models_in_a_table(place):
    shown = place(more="models: {any: {any_of: [tiny]}, far: {url: 'http://127.0.0.1:9'}}\n")
    assert shown.code == 0, shown.err
    lines = {line.split()[0]: line for line in shown.out.splitlines()}
    assert set(lines) == {"MODEL", "any", "far", "tiny", "wide"}
    assert lines["tiny"].split()[1:3] == ["llamacpp", "ram"]
    assert "8192" in lines["tiny"]
    assert "the first that is loaded of tiny" in lines["any"]


def test_one_model_is_told_whole(place):
    shown = place("tiny", more="models: {tiny: {path: models/tiny.gguf, slots: 3, aliases: [t]}}\n")
    assert shown.code == 0, shown.err
    for part in (
        "  runs     ",
        "llama-server -m ",
        "  fits     yes: ",
        "MiB on ram (estimated)",
        "weights",
        "cache of conversations",
        "at most  8192 tokens of context with 3 at once, as it was trained for",
        "load     at least ",
        "chats    ",
    ):
        assert part in shown.out
    assert place("t", more="models: {tiny: {path: models/tiny.gguf, aliases: [t]}}\n").out.startswith("tiny\n")


def test_one_that_does_not_fit_exits_1(place):
    shown = place("wide", more="defaults: {slots: 4}\nmodels: {wide: {path: models/wide.gguf, context: 65536}}\n")
    assert shown.code == 1
    assert "  fits     no: " in shown.out
    assert "It needs about" in shown.out
    (told,) = place(
        "wide", "--json", more="defaults: {slots: 4}\nmodels: {wide: {path: models/wide.gguf, context: 65536}}\n"
    ).json
    assert told["fits"] is False
    assert 0 < told["largest_context"] < told["largest_context_alone"] <= 65536
    assert sum(told["parts"].values()) == told["places"][0]["memory"]["ram"]


def test_a_path_is_a_model_too_with_and_without_a_configuration(place, tmp_path):
    other = write_tiny_chat(tmp_path / "other.gguf", "gamma")
    shown = place(str(other), "--json")
    assert shown.code == 0, shown.err
    assert (shown.json[0]["id"], shown.json[0]["fits"]) == ("other", True)
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": ""}
    (tmp_path / "alone").mkdir()
    alone = run_here("models", "check", "../other.gguf", cwd=tmp_path / "alone", **home)
    assert "  fits     yes: " in alone.out
    assert "Traceback" not in alone.err


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_path_that_is_no_model(place, tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    (tmp_path / "bad.txt").write_bytes(content)
    broken = place(str(tmp_path / "bad.gguf"))
    assert broken.code == 1
    assert "problem" in broken.out
    none = place(str(tmp_path / "bad.txt"))
    assert none.code == 2
    assert "is a file but no .gguf" in none.err


def test_an_unknown_name_tells_the_nearest(place):
    shown = place("tinny")
    assert (shown.code, shown.out) == (2, "")
    assert "has no model 'tinny', and there is no such path. It has: tiny." in shown.err


def test_what_was_learned_is_told_and_nothing_is_made(place, tmp_path):
    first = place("tiny", "--json").json[0]
    assert first["loading"]["learned"] is None
    assert not (tmp_path / "state").exists()


def test_a_broken_history_is_no_reason_to_say_nothing(place, tmp_path):
    (tmp_path / "state").mkdir()
    with sqlite3.connect(tmp_path / "state/roundhouse.db") as file:
        file.execute("PRAGMA user_version = 9999")
    (tmp_path / "state/links.json").write_text("{")
    assert json.loads(place("tiny", "--json").out)[0]["fits"] is True
