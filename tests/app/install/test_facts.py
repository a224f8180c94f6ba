"""What is read from the machine; units, rights and other users are tried in tests/e2e/test_service.py."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from roundhouse.app.install.facts import GROUPS, Request, gather
from roundhouse.app.install.systemctl import Systemctl
from roundhouse.errors import ConfigError

ME = pwd.getpwuid(os.getuid()).pw_name
OTHER = next(entry for entry in pwd.getpwall() if entry.pw_uid not in {0, os.getuid()})


class NoSystemd(Systemctl):
    """As where no systemd can be asked."""

    def _run(self, argv):
        return super()._run(["false"])


def found(folder, text, environ=None, **request):
    file = folder / "roundhouse.yaml"
    file.write_text(text)
    return gather(Request("rh-test", file, **request), environ or {}, NoSystemd(user=False))


def free_port(family=socket.AF_INET):
    with socket.socket(family) as probe:
        probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_runs_as_who_is_named(tmp_path):
    _, facts = found(tmp_path, "{}", run_as=OTHER.pw_name)
    assert facts.account.user == OTHER.pw_name
    assert set(facts.account.groups) <= set(GROUPS)


def test_it_runs_as_the_owner_of_the_start_scripts(tmp_path):
    script = tmp_path / "start.sh"
    script.touch()
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(script, OTHER.pw_uid, OTHER.pw_gid)
    text = f"models: {{m: {{engine: sglang, service: sglang, script: '{script}'}}}}"
    _, facts = found(tmp_path, text, {"SUDO_USER": "root"})
    assert facts.account.user == OTHER.pw_name
    assert f"who owns {script}" in facts.remarks[0]


def test_it_runs_as_who_called_sudo_and_the_configuration_is_read_with_that_home(tmp_path):
    config, facts = found(tmp_path, "state_dir: ~/state", {"SUDO_USER": OTHER.pw_name})
    assert facts.account.user == OTHER.pw_name
    assert config.state_dir == Path(OTHER.pw_dir) / "state"


def test_root_is_a_choice_that_is_told(tmp_path):
    _, facts = found(tmp_path, "{}", {"SUDO_USER": "root"})
    assert "runs as root" in facts.remarks[0]


def test_a_user_who_does_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="There is no user 'nobody-at-all'"):
        found(tmp_path, "{}", run_as="nobody-at-all")


def test_variables_that_the_service_will_not_have_are_told_now(tmp_path):
    with pytest.raises(ConfigError, match=r"further variables from /etc/roundhouse/environment"):
        found(tmp_path, "models: {c: {url: 'http://127.0.0.1:1/v1', api_key: '${RH_TEST_KEY}'}}", {"RH_TEST_KEY": "x"})


def test_f1_addresses_are_given_to_systemd_in_figures(tmp_path):
    port = free_port()
    _, facts = found(tmp_path, f"listen: ['localhost:{port}']", run_as=ME)
    assert facts.listen in {(f"127.0.0.1:{port}",), (f"[::1]:{port}",)}


def test_an_address_that_the_machine_does_not_have_is_left_out(tmp_path):
    port = free_port()
    _, facts = found(
        tmp_path, f"{{listen: ['127.0.0.1:{port}', '[2001:db8::1]:{port}'], allow_anonymous: true}}", run_as=ME
    )
    assert facts.listen == (f"127.0.0.1:{port}",)
    assert "2001:db8::1" in facts.remarks[-1]


def test_who_holds_the_port_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _, facts = found(tmp_path, f"listen: 127.0.0.1:{port}", run_as=ME)
    assert facts.listen == (f"127.0.0.1:{port}",)
    assert f"Port {port} on 127.0.0.1 is taken by pid {os.getpid()}" in facts.remarks[-1]


def test_any_free_port_is_no_port_for_a_service(tmp_path):
    with pytest.raises(ConfigError, match="any free port"):
        found(tmp_path, "listen: 127.0.0.1:0", run_as=ME)


def test_a_service_of_root_finds_engines_in_system_folders_only(tmp_path):
    own = tmp_path / "bin"
    own.mkdir()
    _, root = found(tmp_path, "{}", {"PATH": f"{own}:/usr/bin"}, run_as="root")
    assert str(own) not in root.environment["PATH"].split(":")
    _, user = found(tmp_path, "{}", {"PATH": f"{own}:{tmp_path}/missing:relative:/usr/bin"}, run_as=OTHER.pw_name)
    folders = user.environment["PATH"].split(":")
    assert str(own) in folders
    assert "relative" not in folders
    assert f"{tmp_path}/missing" not in folders
    assert len(folders) == len(set(folders))


def test_a_service_of_ones_own_lies_in_ones_own_folders(tmp_path):
    config, facts = found(tmp_path, "{}", {"XDG_CONFIG_HOME": str(tmp_path / "config")}, user=True)
    assert facts.account is None
    assert facts.unit_dir == tmp_path / "config/systemd/user"
    assert "/var/lib" not in str(config.state_dir)
