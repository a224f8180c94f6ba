"""What a unit says, read from a real journal: all of it, from this run alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from roundhouse.launchers.lines import Lines
from roundhouse.launchers.systemd.journal import Journal, journal_argv
from roundhouse.launchers.systemd.state import UnitState
from roundhouse.ports import Command, Exit, Tag
from tests.launchers.systemd.conftest import until
from tests.support.processes import Watched

TAG = Tag("model", "settings", 4711, 1234.5)
ID = "0123456789abcdef0123456789abcdef"


def fed(*entries: bytes) -> tuple[list[str], Journal]:
    lines = Lines()
    journal = Journal(UnitState("x.service", invocation=ID, since=100.0), lines, user=False)
    for entry in entries:
        journal._take(entry.replace(b'{"MESSAGE"', b'{"__REALTIME_TIMESTAMP":"100000000","MESSAGE"', 1))
    lines.close()
    return lines.tail(100), journal


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        (b'{"MESSAGE":"hello"}', ["hello"]),
        (b'{"MESSAGE":"of this run","__REALTIME_TIMESTAMP":"99900000"}', ["of this run"]),
        (b'{"MESSAGE":"of the run before","__REALTIME_TIMESTAMP":"99000000"}', []),
        (b'{"MESSAGE":[27,91,51,50,109,255]}', ["\x1b[32m\ufffd"]),
        (b'{"MESSAGE":["one","two"]}', ["one", "two"]),
        (b'{"MESSAGE":null}', []),
        (b"{}", []),
        (b"not json", []),
        (b'{"MESSAGE":"mine","_SYSTEMD_INVOCATION_ID":"%s"}' % ID.encode(), ["mine"]),
        (b'{"MESSAGE":"another run\'s","_SYSTEMD_INVOCATION_ID":"ff"}', []),
        (b'{"MESSAGE":"Started x.service.","INVOCATION_ID":"%s"}' % ID.encode(), []),
    ],
)
def test_an_entry_becomes_lines(entry, lines):
    assert fed(entry)[0] == lines


@pytest.mark.parametrize(("run", "over"), [(ID, True), ("ff", False)])
@pytest.mark.parametrize("field", ["INVOCATION_ID", "USER_INVOCATION_ID"])
def test_systemds_last_word_about_this_run_ends_it(run, over, field):
    entry = f'{{"MESSAGE":"Failed with","MESSAGE_ID":"d9b373ed55a64feb8242e02dbe79a49c","{field}":"{run}"}}'
    lines, journal = fed(entry.encode())
    assert lines == []
    assert journal._over.is_set() is over


def test_only_the_units_own_run_is_asked_for():
    state = UnitState("x.service", invocation=ID, since=12.5)
    assert journal_argv(state, user=False)[6:] == [
        "--since=@2.500000",
        f"_SYSTEMD_INVOCATION_ID={ID}",
        "+",
        f"INVOCATION_ID={ID}",
        "+",
        "_SYSTEMD_UNIT=x.service",
    ]


async def test_without_journalctl_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = Lines()
    journal = Journal(UnitState("x.service"), lines, user=False)
    journal.follow()
    await journal._over.wait()
    await journal.close()
    assert "journalctl is not installed" in lines.tail(1)[0]


@pytest.mark.inside_lab
@pytest.mark.parametrize("run", range(3))
async def test_trap_6_the_first_lines_of_a_unit_without_a_past_are_not_lost(box, engine, run):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("print=one", "print=two")))
        assert (await until(handle, "ready"))[1:] == ["one", "two", "ready"]
        await handle.stop(5)


@pytest.mark.inside_lab
async def test_trap_6_nor_are_lines_from_before_the_moment_that_systemd_notes_as_the_start(box):
    unit = box.unit("[Service]\nExecStart=/bin/sh -c 'echo at once; exec sleep 1000'\n")
    async with box.launcher() as launcher:
        for _ in range(10):
            handle = await launcher.start(TAG, Command((), unit=unit))
            assert await until(handle, "at once") == ["at once"]
            await handle.stop(5)


@pytest.mark.inside_lab
async def test_trap_7_lines_of_an_earlier_run_are_not_told_again(box, engine):
    unit = box.unit("[Service]\nExecStart=/bin/false\n")
    async with box.launcher() as launcher:
        first = await launcher.start(TAG, Command(engine("print=first", "die=1"), unit=unit))
        assert await first.wait_exit() == Exit(1)
        assert first.tail(1) == ["first"]
        second = await launcher.start(TAG, Command(engine("print=second"), unit=unit))
        assert (await until(second, "ready"))[1:] == ["second", "ready"]
        await second.stop(5)


@pytest.mark.inside_lab
async def test_what_is_said_in_the_last_moment_is_there_when_the_end_is_told(box):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(("sh", "-c", "sleep 0.3; echo out of memory; kill -9 $$")))
        assert await handle.wait_exit() == Exit(-9)
        assert handle.tail(1) == ["out of memory"]


@pytest.mark.inside_lab
async def test_long_lines_come_whole_and_bytes_as_text(box):
    program = "import os, time; os.write(1, b'x' * 9000 + b'\\n\\xff\\x1b[1m\\nready\\n'); time.sleep(1000)"
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command((sys.executable, "-S", "-c", program)))
        assert await until(handle, "ready") == ["x" * 9000, "\ufffd\x1b[1m", "ready"]
        await handle.stop(5)


@pytest.mark.inside_lab
def test_journalctl_ends_with_a_roundhouse_that_is_killed(lab):
    program = textwrap.dedent("""
        import asyncio, os
        from roundhouse.launchers.lines import Lines
        from roundhouse.launchers.systemd.journal import Journal
        from roundhouse.launchers.systemd.state import UnitState
        async def main():
            lines = Lines()
            Journal(UnitState("dbus.service", since=0.0), lines, user=False).follow()
            children = ""
            while not children:
                await asyncio.sleep(0.01)
                children = open(f"/proc/self/task/{os.getpid()}/children").read()
            print(children, flush=True)
            await asyncio.sleep(1000)
        asyncio.run(main())
    """)
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    journalctl = Watched(int(owner.stdout.readline()))
    owner.kill()
    owner.communicate()
    assert journalctl.gone(10)
