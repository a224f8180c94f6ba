from __future__ import annotations

import socket
from types import SimpleNamespace

from roundhouse.app.doctor import address
from roundhouse.app.doctor.address import check
from roundhouse.runtime.occupants import Occupant
from tests.app.doctor.conftest import told


def test_g4_a_taken_port_names_pid_command_and_user(box):
    process, port = box.listener()
    (found,) = told(check(box.visit(listen=f"127.0.0.1:{port}")), "error")
    assert f"Port {port} is taken by pid {process.pid} (" in found
    assert "user " in found
    assert f"--end-pid {process.pid}" in found


def test_our_own_port_is_ours(box):
    process, port = box.listener()
    box.installed()
    (box.state / "lock").write_text(f"{process.pid}\n")
    assert told(check(box.visit(listen=f"127.0.0.1:{port}")), "ok") == [
        f"127.0.0.1:{port}: Roundhouse listens there. → "
    ]
    (box.state / "lock").write_text(f"{process.pid + 1}\n")
    assert "is taken by" in told(check(box.visit(listen=f"127.0.0.1:{port}")), "error")[0]


def test_e5_a_socket_that_systemd_holds_for_us_is_no_fault(box, monkeypatch):
    held = [Occupant(1, "/sbin/init", "root")]
    monkeypatch.setattr(address.occupants, "listeners", lambda *_: held)
    assert "first connection" in told(check(box.visit()), "note")[0]
    assert told(check(box.visit()), "error") == []
    held.append(Occupant(7, "other", "root"))
    assert "other" in told(check(box.visit()), "error")[0]


def test_a_free_port_is_free(box):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert "is free" in told(check(box.visit(listen=f"127.0.0.1:{port}")), "ok")[0]


def test_f1_b19_an_open_address_without_keys(box):
    open_to_all = box.visit(listen="0.0.0.0:1", allow_anonymous=True)
    assert "anyone may use it" in told(check(open_to_all), "warning")[0]
    keyed = box.visit(listen="0.0.0.0:1", keys=[{"name": "me", "hash": "sha256:" + "0" * 64}])
    assert told(check(keyed), "warning") == []


def test_f1_how_open_webui_in_a_container_reaches_us(box, monkeypatch):
    nets = {"docker0": [SimpleNamespace(address="fe80::1"), SimpleNamespace(address="172.17.0.1")]}
    monkeypatch.setattr("psutil.net_if_addrs", lambda: nets)
    (found,) = told(check(box.visit(listen="127.0.0.1:8002")), "note")
    assert '"172.17.0.1:8002" to `listen:`' in found
    assert "http://host.docker.internal:8002/v1" in found
    assert "--network host" in found


def test_f1_nothing_of_containers_where_there_are_none_or_they_reach_us(box, monkeypatch):
    monkeypatch.setattr("psutil.net_if_addrs", dict)
    assert told(check(box.visit(environ={"PATH": str(box.bin)})), "note") == []
    box.program("docker", "exit 0")
    assert len(told(check(box.visit(environ={"PATH": str(box.bin)})), "note")) == 1
    reached = box.visit(listen=["127.0.0.1:1", "172.17.0.1:1"], allow_anonymous=True)
    assert told(check(reached), "note") == []
