"""The test lab itself: tests marked `inside_lab` really run in a systemd of their own, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.lab import INSIDE, booted, needs_systemd

ROOT = Path(__file__).parents[2]


@pytest.mark.inside_lab
def test_the_first_process_is_a_systemd_of_our_own(lab):
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert lab.systemctl("is-active", "lab.target") == "active"
    assert lab.inside


@pytest.mark.inside_lab
def test_a_user_has_a_manager_too(lab):
    assert lab.start_user_manager(5) == Path("/run/user/5")
    assert lab.systemctl("is-active", "basic.target", user=5) == "active"


@needs_systemd
def test_a_new_lab_comes_up_whole():
    # Of its own: in one that other tests shared, a unit that failed on purpose makes the system "degraded".
    with booted() as lab:
        assert lab.systemctl("is-system-running", "--wait") == "running"


def test_programs_run_inside_from_a_test_that_stays_outside(lab):
    assert lab.run(["systemctl", "is-active", "lab.target"]) == "active\n"
    assert lab.run(["id", "-u"], uid=5) == "5\n"
    assert not lab.inside


@needs_systemd
@pytest.mark.parametrize("ending", ["well", "killed"])
def test_nothing_of_a_lab_stays_when_its_owner_ends(ending):
    program = textwrap.dedent("""
        import sys
        from tests.support.lab import booted
        with booted() as lab:
            print(lab.folder, lab.run(["sh", "-c", "systemd-run -q sleep 1000; cat /proc/1/comm"]), flush=True)
            sys.stdin.read()
    """)
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    folder = Path(owner.stdout.readline().split()[0])
    init = int((folder / "pid").read_text())
    pidfd = os.pidfd_open(init)
    if ending == "killed":
        owner.kill()
    owner.communicate()
    assert owner.returncode == (0 if ending == "well" else -signal.SIGKILL)
    assert signal_when_gone(pidfd)
    if ending == "well":
        assert not folder.exists()
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{folder.name}"))


def signal_when_gone(pidfd):
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(10000))


@pytest.mark.skipif(INSIDE in os.environ, reason="is about the outside")
def test_failures_and_skips_inside_are_told_outside(tmp_path, lab):
    file = ROOT / "tests" / "support" / "lab_sample.py"
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", file],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert "1 failed, 1 passed, 1 skipped, 1 error" in outcome
    assert "- not this" in outcome
    assert "the pytest inside the lab ended before this test" in outcome
