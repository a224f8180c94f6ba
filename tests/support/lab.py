"""A real systemd for tests: booted in namespaces of its own by `syslab` (beside this file), once per pytest process.

As a pytest plugin (tests/conftest.py names it) it gives two ways to use it:

- Tests with `@pytest.mark.inside_lab` (or `pytestmark = pytest.mark.inside_lab` for a whole file) run inside: there
  `systemctl`, `journalctl`, the system bus and /proc are the lab's. A second pytest runs them there, all those of one
  file in one process; each result is reported as if it had been run here. So fixtures of wider scope than a file are
  set up in there, too. `inside_lab(own_network=True)` gives the file a lab with a loopback of its own, for fixed ports.
- The fixture `lab` boots it and runs single programs inside, from a test that stays outside: `lab.run(["systemctl",
  ...])`. The network is shared: what listens inside answers outside. Within a test that is inside, it works the same.

Both skip with a reason where no lab can be booted. Whatever the tests leave running ends with the lab; the lab ends with
its owner, even by SIGKILL, and what is left of it then (empty cgroups, its folder) is removed by the next.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

SYSLAB = Path(__file__).with_name("syslab")
INSIDE = "ROUNDHOUSE_LAB"  # environment: the folder of the lab that we are in
REPORTS = "ROUNDHOUSE_LAB_REPORTS"  # environment: descriptor to which the pytest inside writes its reports
INNER_TIMEOUT = 100  # seconds for one test; less than outside, so that the one inside tells where it hung
TOOLS = ("unshare", "nsenter", "setpriv", "findmnt", "busctl", "journalctl", "dbus-daemon", "pgrep")


def obstacle() -> str | None:
    """Why no lab can be booted here; None if nothing speaks against it."""
    if INSIDE in os.environ:
        return None
    if os.geteuid() != 0:
        return "booting a systemd in namespaces needs root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"booting a systemd needs {', '.join(missing)}"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    groups = next((m for m in mounts if m[2] == "cgroup2"), None)
    if groups is None or "ro" in groups[3].split(","):
        return "booting a systemd needs a cgroup2 mount that can be written"
    return None


needs_systemd = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")


class Lab:
    """A booted systemd. `folder` is laid out as `syslab` says; `inside` tells whether this process is in it."""

    def __init__(self, folder: Path, *, inside: bool = False, own_network: bool = False) -> None:
        self.folder = folder
        self.inside = inside
        self._environ = {**os.environ, "LAB_NETWORK": "own"} if own_network else dict(os.environ)
        self._boot: subprocess.Popen[bytes] | None = None

    @property
    def units(self) -> Path:
        """Its /etc/systemd/system."""
        return self.folder / "units"

    @property
    def address(self) -> str:
        """Its system bus, from outside and inside."""
        return f"unix:path={self.folder}/run/dbus/system_bus_socket"

    def __enter__(self) -> Self:
        if not self.inside:
            sweep()
            # setpriv: SIGKILL for the lab when this thread ends, however it does
            boot = ["setpriv", "--pdeathsig", "KILL", str(SYSLAB), "boot", str(self.folder)]
            self._boot = subprocess.Popen(boot, stdin=subprocess.DEVNULL, start_new_session=True, env=self._environ)
            subprocess.run([SYSLAB, "wait", self.folder], check=True, timeout=60)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._boot is not None:
            subprocess.run([SYSLAB, "down", self.folder], check=True, timeout=60)
            self._boot.wait(20)

    def argv(self, *words: str | Path, uid: int = 0) -> list[str]:
        """The command that runs `words` inside, as user `uid`; for subprocess.Popen or asyncio."""
        become = (
            ["setpriv", f"--reuid={uid}", f"--regid={pwd.getpwuid(uid).pw_gid}", "--clear-groups", "--"] if uid else []
        )
        enter = [] if self.inside else [str(SYSLAB), "in", str(self.folder)]
        return [*enter, *become, *map(str, words)]

    def run(self, words: list[str | Path], *, uid: int = 0, check: bool = True, **options: Any) -> str:
        """Runs a program inside to its end and gives its stdout. Raises CalledProcessError if it fails and `check`."""
        argv = self.argv(*words, uid=uid)
        options = {"stdout": subprocess.PIPE, "text": True, "timeout": 60} | options
        output: str = subprocess.run(argv, check=check, **options).stdout
        return output

    def systemctl(self, *words: str, check: bool = True, user: int | None = None) -> str:
        """Its stdout. With `user`, that user's manager is meant (running: `start_user_manager`)."""
        if user is None:
            return self.run(["systemctl", "--no-pager", *words], check=check).strip()
        env = {**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{user}"}
        return self.run(["systemctl", "--user", "--no-pager", *words], uid=user, check=check, env=env).strip()

    def start_user_manager(self, uid: int) -> Path:
        """Starts (if need be) the manager of a user that this machine has; its XDG_RUNTIME_DIR as seen inside."""
        self.systemctl("start", f"user@{uid}.service")
        return Path(f"/run/user/{uid}")


def sweep() -> None:
    """Removes the empty cgroups and the folders of labs whose owner was killed."""
    gone = subprocess.run([SYSLAB, "sweep"], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    for name in gone.split():
        shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True)


@contextlib.contextmanager
def booted(*, own_network: bool = False):
    """A lab of its own, for tests that break it or need its ports; its folder goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="rh-lab-", dir="/tmp"))
    folder.chmod(0o755)  # polkitd and dbus-daemon run as users of their own
    try:
        with Lab(folder, own_network=own_network) as lab:
            yield lab
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def lab(request):
    """The lab of this pytest process, or the one that it is in."""
    if INSIDE in os.environ:
        yield Lab(Path(os.environ[INSIDE]), inside=True)
    elif reason := obstacle():
        pytest.skip(reason)
    else:
        yield _shared(request.session)


# --- running tests inside ---

_LAB = pytest.StashKey[tuple[contextlib.ExitStack, Lab]]()
_INNER = pytest.StashKey["Inner"]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "inside_lab: runs in the namespaces of a real systemd (tests/support/lab.py)")
    if REPORTS in os.environ:
        config.pluginmanager.register(Reporter(config, int(os.environ[REPORTS])))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _goes_inside(item):
            item.add_marker(needs_systemd)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Reports what the pytest inside says of this test, instead of running it here."""
    if not _goes_inside(item) or obstacle() is not None or INSIDE in os.environ:
        return None
    session = item.session
    inner = session.stash.get(_INNER, None)
    if inner is None or item.nodeid not in inner.tests:
        together = [other.nodeid for other in session.items if other.path == item.path and _goes_inside(other)]
        inner = session.stash[_INNER] = Inner(session, item, together)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in inner.reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    session._setupstate.teardown_exact(nextitem)  # what a test before this one left set up for its file
    if item.nodeid == inner.tests[-1]:
        inner.close()
        del session.stash[_INNER]
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (inner := session.stash.get(_INNER, None)) is not None:
        inner.close()
    if (shared := session.stash.get(_LAB, None)) is not None:
        shared[0].close()


def _goes_inside(item: pytest.Item) -> bool:
    return item.get_closest_marker("inside_lab") is not None


def _shared(session: pytest.Session) -> Lab:
    if _LAB not in session.stash:
        stack = contextlib.ExitStack()
        session.stash[_LAB] = (stack, stack.enter_context(booted()))
    return session.stash[_LAB][1]


class Reporter:
    """In the pytest inside: writes each report as a line of JSON."""

    def __init__(self, config: pytest.Config, descriptor: int) -> None:
        self._config = config
        self._file = os.fdopen(descriptor, "w")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + "\n")
        self._file.flush()


class Inner:
    """A pytest inside the lab that runs the tests of one file."""

    def __init__(self, session: pytest.Session, item: pytest.Item, tests: list[str]) -> None:
        self.tests = tests
        self._stack = contextlib.ExitStack()
        marker = item.get_closest_marker("inside_lab")
        own = marker is not None and marker.kwargs.get("own_network", False)
        lab = self._stack.enter_context(booted(own_network=True)) if own else _shared(session)
        reading, writing = os.pipe()
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        options = ["-q", "-p", "no:cacheprovider", "-o", f"timeout={INNER_TIMEOUT}", "-o", "addopts=--strict-markers"]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by `close`
        self._process = subprocess.Popen(
            lab.argv(sys.executable, "-m", "pytest", *options, *tests),
            env={**env, INSIDE: str(lab.folder), REPORTS: str(writing)},
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            cwd=Path(__file__).parents[2],
        )
        os.close(writing)
        self._file = os.fdopen(reading)

    def reports(self, item: pytest.Item):
        """The reports of one test, as they come; an error report of ours if the process ends without them."""
        for line in itertools.takewhile(bool, iter(self._file.readline, "")):
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=json.loads(line))
            if isinstance(report.longrepr, list):  # of a skip: JSON has no tuples
                report.longrepr = tuple(report.longrepr)
            if report.nodeid == item.nodeid:
                yield report
                if report.when == "teardown":
                    return
        self._said.seek(0)
        words = (
            f"the pytest inside the lab ended before this test:\n{self._said.read()[-8000:].decode(errors='replace')}"
        )
        yield pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "setup")
        yield pytest.TestReport(item.nodeid, item.location, {}, "passed", None, "teardown")

    def close(self) -> None:
        """Ends it; what it started ends with the lab."""
        self._file.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()
        self._stack.close()
