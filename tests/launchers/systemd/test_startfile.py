"""The texts laid down for a unit: what a shell and systemd make of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd.startfile import (
    drop_in_text,
    exec_word,
    folder_name,
    start_text,
    transient_name,
    unit_name,
)
from tests.support.processes import Watched

WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def run(text: str) -> list[str]:
    return subprocess.run(["/bin/sh", "-s"], input=text.encode(), stdout=-1, check=True).stdout.decode().split("\0")


@settings(max_examples=30, deadline=None)
@given(words=st.lists(WORD, max_size=4), value=WORD)
def test_arguments_and_variables_arrive_as_they_are(words, value):
    text = start_text(["printf", "%s\\0", "-", *words], {"RH_VALUE": value}, None)
    assert run(text) == ["-", *words, ""]
    text = start_text(["sh", "-c", 'printf "%s\\0" "$RH_VALUE"'], {"RH_VALUE": value}, None)
    assert run(text) == [value, ""]


def test_it_starts_in_the_folder_given(tmp_path):
    assert run(start_text(["pwd"], {}, str(tmp_path))) == [f"{tmp_path}\n"]


def test_what_is_said_of_it_can_not_become_a_command():
    assert run(start_text(["echo", "x"], {}, None, about="m\necho y")) == ["x\n"]


@pytest.mark.parametrize("name", ["a-b", "1a", "", "a b", "x;y"])
def test_a_variable_that_no_shell_knows_is_refused(name):
    with pytest.raises(LoadFailed, match="can't be the name"):
        start_text(["true"], {name: "x"}, None)


def test_output_goes_through_the_pipe_line_by_line(tmp_path):
    pipe = tmp_path / "out put"
    os.mkfifo(pipe)
    assert run(start_text(["printf", "a\\rb\\r"], {}, None, pipe)) == ["a\nb\n"]


def test_a_helper_that_nobody_writes_to_ends_with_its_unit(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = start_text(["true"], {}, None, pipe)
    before = text[: text.index("  exec >")] + "fi\n"  # the engine's shell dies before it has opened the pipe
    shell = subprocess.Popen(["/bin/sh", "-c", before], start_new_session=True)
    shell.wait()
    (helper,) = members(shell.pid)
    while "fifo" not in (where := Path(f"/proc/{helper}/wchan").read_text()) and where != "wait_for_partner":
        time.sleep(0.01)
    helper = Watched(helper)
    helper.signal(signal.SIGTERM)
    ended = helper.gone(5)
    helper.signal(signal.SIGKILL)
    assert ended


def members(group: int) -> list[int]:
    """Processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                    found.append(int(entry.name))
    return found


def test_without_the_pipe_output_goes_its_old_way(tmp_path):
    assert run(start_text(["printf", "a"], {}, None, tmp_path / "none")) == ["a"]


def test_the_drop_in_of_install_names_the_start_file_by_the_units_name():
    text = drop_in_text()
    assert "ExecStart=\nExecStart=:/bin/sh /run/roundhouse/units/%N/start\n" in text
    for line in ("KillMode=control-group", "Restart=no", "StartLimitIntervalSec=0", "Type=exec"):
        assert line in text.splitlines()


@pytest.mark.parametrize(("text", "word"), [("/a b", '"/a b"'), ("/100%", '"/100%%"'), ('/"\\', '"/\\"\\\\"')])
def test_a_word_of_a_unit_file(text, word):
    assert exec_word(text) == word


@pytest.mark.parametrize(
    ("name", "full", "folder"),
    [
        ("sglang", "sglang.service", "sglang"),
        ("sglang.service", "sglang.service", "sglang"),
        ("llama@a.b", "llama@a.b.service", "llama@a.b"),
    ],
)
def test_names_of_units(name, full, folder):
    assert unit_name(name) == full
    assert folder_name(full) == folder


@given(ids=st.sets(WORD, min_size=2, max_size=2))
def test_models_have_units_of_their_own(ids):
    names = [transient_name("0123456789abcdef", model) for model in ids]
    assert len(set(names)) == 2
    for name in names:
        assert name.startswith("roundhouse-01234567-")
        assert len(name) <= 255
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\")


def test_long_names_are_cut_but_stay_apart():
    names = {transient_name("0123456789abcdef", "é" * 300 + end) for end in "ab"}
    assert len(names) == 2
    assert {len(name) for name in names} == {255}
