import asyncio
import io
import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.observe import log
from roundhouse.observe.redact import Secrets

JSON, TEXT = log.Style(json=True), log.Style(json=False)


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail(error):
    raise error


def lines_of(stream):
    return stream.getvalue().splitlines()


def test_g6_json_one_line_per_event():
    stream = io.StringIO()
    log.configure("info", stream, style=JSON)
    log.get("runtime").info("model_ready", model="alpha", seconds=1.5, text="a\nb")
    (line,) = lines_of(stream)
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert list(event.items()) == [
        ("level", "info"),
        ("event", "model_ready"),
        ("source", "runtime"),
        ("model", "alpha"),
        ("seconds", 1.5),
        ("text", "a\nb"),
    ]


def test_g6_key_values_for_people():
    stream = io.StringIO()
    log.configure("info", stream, style=TEXT)
    log.get("runtime").warning("odd\x1b[2J", a="x y", b='"', c="", d=None, e=[1, "ü"], f="a\nb", g="\x9b", h="ok")
    (line,) = lines_of(stream)
    when, _, rest = line.partition(" ")
    assert when.endswith("Z")
    assert rest == r'warning  odd\x1b[2J source=runtime a="x y" b="\"" c="" d=- e=[1,"ü"] f="a\nb" g="\x9b" h=ok'


def test_g6_an_exception_is_one_line_with_its_traceback():
    for style in (JSON, TEXT):
        stream = io.StringIO()
        log.configure("info", stream, style=style)
        try:
            fail(ZeroDivisionError("oh"))
        except ZeroDivisionError:
            log.get("x").exception("failed")
        (line,) = lines_of(stream)
        assert "ZeroDivisionError: oh" in line
        assert "test_log.py" in line


def test_g6_level():
    stream = io.StringIO()
    log.configure("warning", stream, style=JSON)
    log.get("x").info("quiet")
    logging.getLogger("uvicorn").info("quiet")
    log.get("x").error("loud")
    assert [json.loads(line)["event"] for line in lines_of(stream)] == ["loud"]


def test_g6_a_logger_made_before_configure_follows_it():
    logger = log.get("x")
    first, second = io.StringIO(), io.StringIO()
    log.configure("info", first, style=JSON)
    logger.info("one")
    log.configure("info", second, style=JSON)
    logger.info("two")
    assert (len(lines_of(first)), len(lines_of(second))) == (1, 1)


def test_g6_request_ids_are_bound_by_task():
    stream = io.StringIO()
    log.configure("info", stream, style=JSON)

    async def request(number):
        with structlog.contextvars.bound_contextvars(request_id=number):
            await asyncio.sleep(0)
            log.get("x").info("done", n=number)

    async def run():
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(request(number))

    asyncio.run(run())
    assert all((event := json.loads(line))["request_id"] == event["n"] for line in lines_of(stream))


def test_g6_standard_library_logging_goes_the_same_way():
    stream = io.StringIO()
    log.configure("info", stream, style=JSON)
    logging.getLogger("uvicorn.error").warning("bad %s", "thing")
    logging.getLogger("uvicorn.error").log(35, "odd level")
    logging.getLogger("uvicorn.error").error("bad %d", "arguments")
    try:
        fail(ValueError("oh"))
    except ValueError:
        logging.getLogger("asyncio").exception("failed")
    events = [json.loads(line) for line in lines_of(stream)]
    assert [(e["level"], e["source"], e["event"]) for e in events] == [
        ("warning", "uvicorn.error", "bad thing"),
        ("warning", "uvicorn.error", "odd level"),
        ("error", "uvicorn.error", "bad %d ('arguments',)"),
        ("error", "asyncio", "failed"),
    ]
    assert "ValueError: oh" in events[-1]["exception"]


def test_f4_secrets_are_hidden_in_every_line():
    stream, secrets = io.StringIO(), Secrets()
    for style in (JSON, TEXT):
        log.configure("info", stream, secrets=secrets, style=style)
        secrets.add('hunter"2')
        log.get("x").info('the key is hunter"2', authorization="abc-def", nested={"x": 'hunter"2'})
        logging.getLogger("uvicorn").warning("with %s", 'hunter"2')
        try:
            fail(ValueError('hunter"2'))
        except ValueError:
            log.get("x").exception("failed")
    assert "hunter" not in stream.getvalue()
    assert "abc-def" not in stream.getvalue()


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.floats() | st.binary()))
def test_g6_whatever_is_logged_is_one_line_and_valid_json(fields):
    fields = {name: value for name, value in fields.items() if name not in {"event", "exc_info"}}
    for style in (JSON, TEXT):
        stream = io.StringIO()
        log.configure("info", stream, style=style)
        log.get("x").bind(**fields).info("event")
        text = stream.getvalue()
        assert text.endswith("\n")
        assert len(text.splitlines()) == 1 or (style is JSON and text.count("\n") == 1)
        if style is JSON:
            json.loads(text)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_g6_a_full_disk_does_not_raise_and_is_told_later(tmp_path):
    with Path("/dev/full").open("w") as full:
        output = log.configure("info", full, style=JSON)
        log.get("x").info("one")
        log.get("x").info("two")
        assert output.lost == 2
        with (tmp_path / "log").open("w") as file:
            os.dup2(file.fileno(), full.fileno())  # the disk has room again
            log.get("x").info("three")
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first == "[2 log lines were lost here]"
    assert json.loads(second)["event"] == "three"


def test_g6_a_broken_pipe_does_not_kill_the_program():
    script = "from roundhouse.observe import log; log.configure(); [log.get('x').info('line') for _ in range(3)]; print('alive')"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script], stderr=writer, stdout=subprocess.PIPE, check=False, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_g6_a_closed_stream_does_not_raise():
    stream = io.StringIO()
    output = log.configure("info", stream, style=JSON)
    stream.close()
    log.get("x").info("line")
    assert output.lost == 1
    assert log.style_of(stream, {}) == JSON


@pytest.mark.parametrize(
    ("environ", "style"),
    [
        ({}, log.Style(json=False, colour=True)),
        ({"NO_COLOR": "1"}, TEXT),
        ({"TERM": "dumb"}, TEXT),
        ({"ROUNDHOUSE_LOG": "json"}, JSON),
        ({"ROUNDHOUSE_LOG": "text"}, log.Style(json=False, colour=True)),
    ],
)
def test_g6_style_on_a_terminal(environ, style):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert log.style_of(terminal, environ) == style
    os.close(ours)


def test_g6_style_elsewhere():
    assert log.style_of(io.StringIO(), {}) == JSON
    assert log.style_of(io.StringIO(), {"ROUNDHOUSE_LOG": "text"}) == TEXT


def test_g6_colour_marks_the_level():
    stream = io.StringIO()
    log.configure("info", stream, style=log.Style(json=False, colour=True))
    log.get("x").warning("odd")
    log.get("x").info("fine")
    odd, fine = lines_of(stream)
    assert "\x1b[33mwarning \x1b[0m odd" in odd
    assert "\x1b" not in fine
