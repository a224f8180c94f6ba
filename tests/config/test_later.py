from pathlib import Path

from roundhouse.config.later import not_yet
from roundhouse.config.load import parse


def said(text):
    return not_yet(parse(text, Path("/nowhere/x.yaml"), {"HOME": "/nowhere"}))


def test_nothing_is_said_of_what_was_not_written():
    assert said("models: {m: {path: /m.gguf}}") == ()


def test_what_has_no_effect_yet_is_said_with_its_key():
    text = "reload: {watch: true}\nsessions: {store: disk}\nmodels:\n  c: {url: http://x, max_instances: 2}\n"
    assert [line.split(":")[0] for line in said(text)] == ["models.c.max_instances"]


def test_sessions_off_is_what_happens_anyway():
    assert said("sessions: {store: off}") == ()
