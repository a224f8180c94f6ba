from __future__ import annotations

import pytest

from roundhouse.app.doctor.scripts import check


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/bash\nserve\n", None),
        ("serve --port 1\n", "no `#!` line"),
        ("\n#!/bin/bash\nserve\n", "no `#!` line"),
        ("#!/bin/bash\r\nserve\r\n", "Windows line ends"),
    ],
)
def test_g4_the_first_line_says_what_runs_it(box, text, words):
    script = box.bin / "start.sh"
    script.write_text(text, newline="")
    script.chmod(0o755)
    (found,) = check(box.visit({"m": {"script": str(script), "engine": "openai", "port": 5}}))
    assert found.severity == ("error" if words else "ok")
    assert (words or "can be run") in found.what
    assert bool(found.remedy) is bool(words)


def test_what_is_missing_is_said_with_the_model(box):
    assert list(check(box.visit({"m": {"script": "/none", "engine": "openai", "port": 5}}))) == []
