"""`models edit` in an editor."""

from __future__ import annotations

import os

import pytest

from tests.cli.commands import Terminal
from tests.cli.test_edit import FILE, models


@pytest.fixture
def file(tmp_path):
    (tmp_path / "models").mkdir()
    path = tmp_path / "roundhouse.yaml"
    path.write_text(FILE)
    return path


def editor(folder, *edits):
    """An editor that changes a text each time it is called, and keeps what it saw."""
    script = folder / "editor.sh"
    lines = "\n".join(f'{number}) sed -i "{edit}" "$1";;' for number, edit in enumerate(edits, start=1))
    script.write_text(
        f'#!/bin/sh\ncd {folder}\necho x >> calls\nn=$(wc -l < calls)\ncp "$1" "seen$n"\ncase $n in\n{lines}\nesac\n'
    )
    script.chmod(0o755)
    return str(script)


def test_the_entry_alone_in_an_editor(file):
    shown = models(file, "edit", "a", VISUAL=editor(file.parent, "s/context: 1/ttl: 1h/"))
    assert (shown.code, shown.err) == (0, "")
    assert file.read_text() == FILE.replace("context: 1", "ttl: 1h")
    seen = (file.parent / "seen1").read_text()
    assert seen.endswith("# the small one\na:\n  url: http://127.0.0.1:9/v1   # here\n  context: 1\n")


@pytest.mark.parametrize(
    ("command", "code"), [("false", 1), ("/no/such", 2), ("'", 2), ("truncate -s 0", 4), ("sed -i s/url/ur/", 4)]
)
def test_an_editor_that_fails_leaves_the_file(file, command, code):
    shown = models(file, "edit", "a", EDITOR=command)
    assert shown.code == code, shown
    assert file.read_text() == FILE


def test_g3_what_is_wrong_is_edited_again_in_a_terminal(file):
    command = editor(file.parent, "s/context: 1/context: one/", "s/context: one/context: 11/")
    person = Terminal("models", "edit", "a", "--config", str(file), EDITOR=command)
    assert "models.a.context" in person.until("Edit again? [Y/n]")
    person.type("\n")
    assert person.end() == 0
    assert file.read_text() == FILE.replace("context: 1\n", "context: 11\n")
    assert "#| " in (file.parent / "seen2").read_text()
    os.remove(file.parent / "calls")
    person = Terminal("models", "edit", "b", "--config", str(file), EDITOR=editor(file.parent, "s/url/ur/"))
    person.until("Edit again? [Y/n]")
    person.type("n\n")
    assert person.end() == 4
