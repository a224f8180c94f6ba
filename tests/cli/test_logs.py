import json
import os
import signal
import subprocess

from tests.cli.commands import LIMIT, argv, environ, run, stub


def test_logs_of_a_failed_engine_are_its_last_words(real):
    run("load", "bad", "--url", real.url)
    shown = run("logs", "bad", "--url", real.url)
    assert (shown.code, shown.out) == (0, "these were my last words\n")
    assert run("logs", "bad", "--json", "--url", real.url).json == {"model": "bad", "line": "these were my last words"}


def test_logs_of_an_unknown_model(real):
    assert run("logs", "nope", "--url", real.url).code == 4


def test_follow_prints_lines_as_they_come_until_ctrl_c():
    class Forever(list):
        """First a line, then nothing for as long as the reader stays."""

        def __iter__(self):
            yield b"first\n"
            left.wait(LIMIT)

    import threading

    left = threading.Event()
    with (
        stub({"GET /api/v1/models/m/log?follow=1": (200, Forever())}) as there,
        subprocess.Popen(
            argv("logs", "-f", "m", "--json", "--url", there.url),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ(),
        ) as following,
    ):  # fmt: skip
        assert json.loads(following.stdout.readline()) == {"model": "m", "line": "first"}
        os.kill(following.pid, signal.SIGINT)
        _, told = following.communicate(timeout=LIMIT)
        left.set()
    assert following.returncode == 0
    assert told == ""
