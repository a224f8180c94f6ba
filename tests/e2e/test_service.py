"""`roundhouse install` on a real systemd: the whole program as a service, restarted, killed, hung, stopped and removed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import roundhouse
from roundhouse.launchers.systemd import drop_in_text
from tests.support.house import Scripted, free_port

pytestmark = [pytest.mark.inside_lab, pytest.mark.timeout(180)]

UID = 4242
USER = "roundhouse-test"
LIMIT = 60.0
SOURCES = Path(roundhouse.__file__).parent.parent


@dataclass
class Home:
    """A user of the lab (its /etc is an overlay), with a Python that this user can run, and a configuration."""

    folder: Path
    python: Path
    port: int = field(default_factory=free_port)
    name: str = "rh-test"

    @property
    def config(self) -> Path:
        return self.folder / "roundhouse.yaml"

    @property
    def service(self) -> str:
        return f"{self.name}.service"

    def model(self, name: str, *flags: str) -> Scripted:
        made = Scripted(self.folder, name, *flags)
        made.config["command"] = str(made.config["command"]).replace(sys.executable, str(self.python))
        return made

    def write(self, models: dict[str, object], **settings: object) -> None:
        ours = {"listen": [f"127.0.0.1:{self.port}"], "devices": {"ram": "1GiB"}}
        self.config.write_text(json.dumps(ours | settings | {"models": models}))

    def run(self, command: str, *arguments: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"] if uid else []
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "XDG_RUNTIME_DIR": f"/run/user/{uid}"}
        argv = [*become, str(self.python), "-P", "-m", "roundhouse", command, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, env=env, cwd="/", timeout=LIMIT, check=False)

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = ["--config", str(self.config), "--name", self.name, "--run-as", USER]
        return self.run("install", *words, *arguments)

    def uninstall(self) -> subprocess.CompletedProcess[str]:
        return self.run("uninstall", "--name", self.name)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request(method, path, json.dumps(body) if body else None)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def chat(self, model: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return self.ask("POST", "/v1/chat/completions", body)[0]


def systemctl(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["systemctl", "--no-pager", *words], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def shown(unit: str, name: str) -> str:
    return systemctl("show", "--value", "--property", name, unit)


def until(true, what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline, f"not within {LIMIT} s: {what}\n{journal()}"
        time.sleep(0.05)


def journal() -> str:
    return subprocess.run(["journalctl", "--no-pager", "-n", "80"], capture_output=True, text=True, check=False).stdout


def gone(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture(scope="module")
def home(lab):
    """Everything belongs to a user made for this test."""
    assert lab.inside  # or the user would be one of this machine
    folder = Path(tempfile.mkdtemp(prefix="rh-service-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        with open("/etc/passwd", "a") as users, open("/etc/group", "a") as groups:
            users.write(f"{USER}:x:{UID}:{UID}::{folder}:/bin/sh\n")
            groups.write(f"{USER}:x:{UID}:\n")
        os.chown(folder, UID, UID)
        yield Home(folder, make_python(folder))
    finally:
        shutil.rmtree(folder)


def make_python(folder: Path) -> Path:
    """An interpreter that other users can run, too, with our packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = [str(SOURCES), *(path for path in sys.path if path.endswith("site-packages"))]
    for base in (os.path.realpath(sys.executable), f"/usr/bin/{version}"):
        python = folder / "venv/bin/python"
        shutil.rmtree(folder / "venv", ignore_errors=True)
        made = [base, "-m", "venv", "--without-pip", str(folder / "venv")]
        if not Path(base).exists() or subprocess.run(made, capture_output=True, timeout=LIMIT, check=False).returncode:
            continue
        (folder / f"venv/lib/{version}/site-packages/ours.pth").write_text("\n".join(packages) + "\n")
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
        # by a shell: setpriv itself keeps root's rights until its exec is done
        tried = [*become, "/bin/sh", "-c", f"{python} -c 'import roundhouse.cli, uvloop'"]
        if subprocess.run(tried, capture_output=True, cwd="/", timeout=LIMIT, check=False).returncode == 0:
            return python
    pytest.skip("no Python of this version that another user may run together with this tree")


@pytest.fixture
def installed(home):
    """The service with one model that is loaded; what it leaves behind is checked after each test."""
    model = home.model("one")
    model.record.unlink(missing_ok=True)
    home.write({"one": model.config})
    done = home.install()
    assert done.returncode == 0, done.stderr + journal()
    try:
        assert home.chat("one") == 200, journal()
        yield home, model
    finally:
        removed = home.uninstall()
    assert removed.returncode == 0, removed.stderr
    assert gone(model.pid)
    assert nothing_left(home) == []


def nothing_left(home: Home) -> list[str]:
    """Everything of an installation that can be found."""
    found = [*Path("/etc/systemd/system").rglob("*"), *Path("/etc/polkit-1/rules.d").glob("*.rules")]
    ours = [str(path) for path in found if home.name in path.name or "roundhouse" in path.name]
    ours += [str(path) for path in (Path("/etc/roundhouse"), Path("/run/roundhouse")) if path.exists()]
    listed = systemctl("list-units", "--all", "--no-legend", "--plain", f"{home.name}.*", check=False)
    return [*ours, *listed.split("\n")] if listed else ours


def test_e4_systemctl_reload_applies_the_configuration(installed):
    home, model = installed
    pid = model.pid
    two = home.model("two")
    home.write({"one": model.config, "two": two.config}, reload={"watch": False})
    systemctl("reload", home.service)
    until(lambda: home.chat("two") == 200, "the new model answers")
    home.write({"one": model.config | {"env": {"X": "1"}}}, reload={"watch": False})
    systemctl("reload", home.service)
    until(lambda: gone(pid), "the engine with the old settings is gone")
    until(lambda: home.chat("two") == 404, "the model that was taken out is unknown")
    assert home.chat("one") == 200
    assert shown(home.service, "ActiveState") == "active"


class Clients:
    """Threads that ask all the time, each request on a connection of its own."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.statuses: list[int] = []
        self.refused: list[str] = []
        self.broken: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._loop) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        while not self._end.is_set():
            try:
                self.statuses.append(self.home.chat("one"))
            except ConnectionRefusedError as error:
                self.refused.append(repr(error))
            except (OSError, http.client.HTTPException) as error:  # under way when the router was killed
                self.broken.append(repr(error))

    def some_more(self) -> None:
        """Waits until requests that begin now are answered, by whichever router."""
        want = len(self.statuses) + 20
        until(lambda: len(self.statuses) >= want, "20 more answers")


def test_e5_the_service_answers_by_socket_activation_as_its_user(installed):
    home, model = installed
    assert shown(home.service, "User") == USER
    assert shown(home.service, "Type") == "notify"
    assert shown(home.service, "TriggeredBy") == f"{home.name}.socket"
    assert systemctl("is-enabled", home.service, f"{home.name}.socket").split() == ["enabled", "enabled"]
    assert os.stat(f"/proc/{model.pid}").st_uid == UID
    assert os.stat("/var/lib/roundhouse").st_uid == UID
    verified = subprocess.run(
        ["systemd-analyze", "verify", f"/etc/systemd/system/{home.service}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_e5_a_restart_under_load_refuses_nobody_and_reloads_nothing(installed):
    home, model = installed
    router = shown(home.service, "MainPID")
    with Clients(home) as clients:
        for _ in range(2):
            clients.some_more()
            systemctl("restart", home.service)
        clients.some_more()
    assert (clients.refused, clients.broken) == ([], [])
    assert set(clients.statuses) <= {200, 503}  # 503: those who came while it ended (E5)
    assert shown(home.service, "MainPID") != router
    assert model.starts == 1


def test_e1_a_killed_router_refuses_nobody_and_reloads_nothing(installed):
    home, model = installed
    with Clients(home) as clients:
        clients.some_more()
        systemctl("kill", "--signal", "KILL", "--kill-whom", "main", home.service)
        clients.some_more()
    assert clients.refused == []
    assert shown(home.service, "NRestarts") == "1"
    assert model.starts == 1


def test_e5_a_hung_router_is_started_again_by_the_watchdog(installed):
    home, model = installed
    extra = Path(f"/etc/systemd/system/{home.service}.d/test.conf")
    extra.parent.mkdir()
    extra.write_text("[Service]\nWatchdogSec=2\n")
    try:
        systemctl("daemon-reload")
        systemctl("restart", home.service)
        systemctl("kill", "--signal", "STOP", "--kill-whom", "main", home.service)
        assert home.chat("one") == 200  # waits in the socket meanwhile
    finally:
        shutil.rmtree(extra.parent)
    assert shown(home.service, "NRestarts") == "1"
    assert "watchdog" in journal().lower()
    assert model.starts == 1


def test_e5_a_stop_ends_engines_and_stays_stopped(installed):
    home, model = installed
    engine = model.pid
    systemctl("stop", home.service)
    assert gone(engine)
    until(lambda: systemctl("is-active", f"{home.name}.socket", check=False) == "inactive", "the socket closed")
    with pytest.raises(ConnectionRefusedError):
        home.ask("GET", "/health")
    systemctl("start", home.service)
    assert home.chat("one") == 200
    assert model.starts == 2


def test_g3_installing_again_changes_only_what_differs(installed):
    home, model = installed
    again = json.loads(home.install("--json").stdout)
    assert {file["state"] for file in again["files"]} == {"unchanged"}
    home.port = free_port()
    home.write({"one": model.config})
    moved = json.loads(home.install("--json").stdout)
    assert [file["state"] for file in moved["files"]] == ["unchanged", "replaced"]
    assert moved["url"] == f"http://127.0.0.1:{home.port}"
    assert home.chat("one") == 200
    assert model.starts == 1


def test_g3_what_was_changed_by_hand_is_neither_written_over_nor_removed(installed):
    home, _model = installed
    unit = Path(f"/etc/systemd/system/{home.name}.socket")
    text = unit.read_text()
    unit.write_text(f"{text}# mine\n")
    refused = home.install()
    assert refused.returncode == 4
    assert f"{unit}: changed by hand" in refused.stderr
    kept = home.uninstall()
    assert kept.returncode == 1
    assert unit.exists()
    assert f"kept    {unit}" in kept.stdout
    unit.write_text(text)
    assert home.install().returncode == 0  # the next installation takes it as its own again
    assert home.chat("one") == 200


def test_g3_a_service_of_others_with_this_name_makes_way_when_told_to_and_comes_back(home):
    model = home.model("one")
    model.record.unlink(missing_ok=True)
    home.write({"one": model.config})
    unit = Path(f"/etc/systemd/system/{home.service}")
    theirs = f"[Service]\nExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 {home.port}\n"
    unit.write_text(theirs)
    systemctl("daemon-reload")
    systemctl("start", home.service)
    until(lambda: home_answers(home), "their service answers")
    refused = home.install()
    assert refused.returncode == 4
    assert f"{unit}: not ours" in refused.stderr
    assert f"is taken by pid {shown(home.service, 'MainPID')}" in home.install("--dry-run").stderr
    assert unit.read_text() == theirs
    done = home.install("--force")
    assert done.returncode == 0, done.stderr
    assert home.chat("one") == 200
    assert home.uninstall().returncode == 0
    assert unit.read_text() == theirs
    unit.unlink()
    systemctl("daemon-reload")
    assert nothing_left(home) == []


def home_answers(home: Home) -> bool:
    with contextlib.suppress(OSError):
        return home.ask("GET", "/")[0] == 200
    return False


def test_f_polkit_grants_the_named_units_and_verbs_and_nothing_else(home):
    sleeper = f"[Service]\nUser={USER}\nExecStart=/bin/sleep infinity\n"
    for name in ("named", "other", "rooty"):
        text = sleeper if name != "rooty" else "[Service]\nExecStart=/bin/sleep infinity\n"
        Path(f"/etc/systemd/system/rh-{name}.service").write_text(text)
    script = home.folder / "start.sh"
    script.write_text("#!/bin/sh\n")
    models = {
        name: {"engine": "llamacpp", "script": str(script), "service": f"rh-{name}.service", "port": free_port()}
        for name in ("named", "rooty", "missing")
    }
    home.write(models)
    systemctl("daemon-reload")
    done = home.install("--no-start", "--json")
    assert done.returncode == 0, done.stderr
    remarks = "\n".join(json.loads(done.stdout)["remarks"])
    assert f"rh-rooty.service runs as root, not as {USER}" in remarks
    assert "rh-missing.service: there is no such unit" in remarks
    try:
        drop_ins = sorted(str(path) for path in Path("/etc/systemd/system").glob("*.d/50-roundhouse.conf"))
        assert drop_ins == ["/etc/systemd/system/rh-named.service.d/50-roundhouse.conf"]
        assert drop_in_text() in Path(drop_ins[0]).read_text()
        start = Path("/run/roundhouse/units/rh-named/start")  # as the router writes it
        start.parent.mkdir(parents=True)
        start.write_text("exec sleep infinity\n")
        allowed = ["start", "restart", "stop"]
        until(lambda: may("start", "rh-named.service"), "polkit has read the rule")
        assert [verb for verb in allowed if not may(verb, "rh-named.service")] == []
        assert may("start", "rh-named.service")
        assert may("kill", "--signal", "KILL", "rh-named.service")
        assert may("reset-failed", "rh-named.service")
        refused = [
            ("set-property", "rh-named.service", "MemoryMax=1G"),
            ("enable", "rh-named.service"),
            ("start", "rh-other.service"),
            ("start", "rh-rooty.service"),
            ("start", "rh-missing.service"),
            ("daemon-reload",),
        ]
        assert [words for words in refused if may(*words)] == []
        assert not as_user("systemd-run", "--unit", "rh-named-2", "--no-ask-password", "/bin/true")
        assert not as_user("systemd-run", "--unit", "rh-missing", "--no-ask-password", "/bin/true")
    finally:
        home.uninstall()
        for name in ("named", "other", "rooty"):
            systemctl("stop", f"rh-{name}.service", check=False)
            Path(f"/etc/systemd/system/rh-{name}.service").unlink()
        systemctl("daemon-reload")
    assert nothing_left(home) == []
    assert not may("start", "rh-named.service")


def may(*words: str) -> bool:
    return as_user("systemctl", "--no-ask-password", *words)


def as_user(*words: str) -> bool:
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
    return subprocess.run([*become, *words], capture_output=True, timeout=LIMIT, check=False).returncode == 0


def test_g3_a_service_of_the_users_own(lab, home):
    model = home.model("one")
    model.record.unlink(missing_ok=True)
    home.write({"one": model.config})
    extra = Path(f"/etc/systemd/system/user@{UID}.service.d/test.conf")  # this user's manager finds this user's units
    extra.parent.mkdir()
    run = f"/run/user/{UID}/systemd"
    folders = f"{run}/transient:{home.folder}/.config/systemd/user:{run}/user:{lab.folder}/userbase"
    extra.write_text(f"[Service]\nEnvironment=SYSTEMD_UNIT_PATH={folders} HOME={home.folder}\n")
    systemctl("daemon-reload")
    systemctl("start", f"user@{UID}.service")
    try:
        words = ["--config", str(home.config), "--name", home.name, "--user"]
        done = home.run("install", *words, uid=UID)
        assert done.returncode == 0, done.stderr + journal()
        assert home.chat("one") == 200
        env = {**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{UID}"}
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
        restart = [*become, "systemctl", "--user", "restart", home.service]
        subprocess.run(restart, env=env, timeout=LIMIT, check=True)
        assert home.chat("one") == 200
        assert model.starts == 1
        removed = home.run("uninstall", "--name", home.name, "--user", uid=UID)
        assert removed.returncode == 0, removed.stderr
        assert gone(model.pid)
        assert list((home.folder / ".config").rglob(f"*{home.name}*")) == []
    finally:
        systemctl("stop", f"user@{UID}.service")
        shutil.rmtree(extra.parent)


def test_g3_without_root_it_is_refused_with_the_line_to_type(home):
    home.write({})
    for command, words in (("install", ["--config", str(home.config)]), ("uninstall", [])):
        refused = home.run(command, *words, uid=UID)
        assert refused.returncode == 4
        assert f"sudo {home.python} -m roundhouse {command}" in refused.stderr
    dry = home.run("install", "--config", str(home.config), "--dry-run", uid=UID)
    assert dry.returncode == 0, dry.stderr


def test_a_user_who_cannot_read_the_configuration_is_told_before_anything_is_written(home):
    home.write({})
    home.config.chmod(0o600)
    os.chown(home.config, 0, 0)
    try:
        refused = home.install()
    finally:
        home.config.unlink()
    assert refused.returncode == 4
    assert f"{USER} can't read {home.config}" in refused.stderr
    assert nothing_left(home) == []


def test_a_service_that_does_not_come_up_shows_its_last_lines(home):
    home.write({})
    state = Path("/var/lib/roundhouse")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    (state / "lock").mkdir()  # so that it can't begin
    try:
        failed = home.install()
        assert failed.returncode == 1
        assert f"{home.service} is installed, but does not come up" in failed.stderr
        assert "journalctl --unit" in failed.stderr
        assert "Traceback" not in failed.stderr
    finally:
        home.uninstall()
        shutil.rmtree(state)
    assert nothing_left(home) == []


def test_c7_a_router_that_is_not_root_runs_scripts_in_named_units(home):
    """By the drop-in that `install` wrote and the polkit rule; a run itself writes nothing to the system's folders."""
    port, unit = free_port(), "rh-test-engine.service"
    engine = home.model("one")
    engine.record.unlink(missing_ok=True)
    script = home.folder / "start_one.sh"
    script.write_text(f"#!/bin/sh\nexec {engine.config['command']}\n".replace("${PORT}", str(port)))
    script.chmod(0o755)
    os.chown(script, UID, UID)
    file = Path("/etc/systemd/system") / unit
    file.write_text(f"[Service]\nUser={USER}\nExecStart=/bin/false\nRestart=always\n")
    systemctl("daemon-reload")
    home.write({"one": {"engine": "llamacpp", "script": str(script), "service": unit, "port": port}})
    try:
        done = home.install()
        assert done.returncode == 0, done.stderr + journal()
        written = sorted(str(path) for path in Path("/etc/systemd/system").rglob("*"))
        assert home.chat("one") == 200, journal()
        assert shown(unit, "MainPID") == str(engine.pid)
        assert os.stat(f"/proc/{engine.pid}").st_uid == UID
        assert shown(unit, "Restart") == "no"
        systemctl("restart", home.service)
        assert home.chat("one") == 200
        assert engine.starts == 1
        os.kill(engine.pid, 9)
        until(lambda: home.chat("one") == 200 and engine.starts == 2, "a new engine")
        systemctl("stop", home.service)
        assert systemctl("is-active", unit, check=False) in {"inactive", "failed"}
        assert gone(engine.pid)
        assert sorted(str(path) for path in Path("/etc/systemd/system").rglob("*")) == written
        assert not Path(f"/run/systemd/system/{unit}.d").exists()
    finally:
        removed = home.uninstall()
        file.unlink()
        systemctl("daemon-reload")
    assert removed.returncode == 0, removed.stderr
    assert nothing_left(home) == []
