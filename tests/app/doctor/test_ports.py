from __future__ import annotations

import socket

import pytest

from roundhouse.app.doctor import ports, whose
from roundhouse.app.doctor.ports import check, ports_of
from tests.app.doctor.conftest import told

SERVES = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class H(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status}); self.end_headers(); self.wfile.write(b'{{"status":"ok"}}')
    def log_message(self, *_): pass
s = HTTPServer(('127.0.0.1', 0), H); print(s.server_address[1], flush=True); s.serve_forever()
"""


def model(port, **more):
    return {"path": "/none.gguf", "engine": "llamacpp", "port": port} | more


def test_g4_b10_a_foreign_program_on_an_engines_port_is_told_and_left_alone(box):
    process, port = box.listener(name="llama-server")
    (found,) = told(check(box.visit({"a": model(port), "b": model(port)})))
    assert f"taken by pid {process.pid} (" in found
    assert "user " in found
    assert "a, b can't be loaded" in found
    assert f"--end-pid {process.pid}" in found
    assert process.poll() is None


def test_e3_another_installations_engine_is_foreign(box):
    _, port = box.listener(mark="0123456789abcdef:a")
    box.installed()
    assert "engine of model a" in told(check(box.visit({"a": model(port)})), "error")[0]


@pytest.mark.parametrize(
    ("status", "severity", "words"), [(200, "ok", "ready"), (503, "warning", "answers 503 on /health")]
)
def test_g4_b11_an_engine_of_ours_is_asked_how_it_is(box, status, severity, words):
    box.installed()
    _, port = box.run(SERVES.format(status=status), mark=f"{box.install}:a")
    found = list(check(box.visit({"a": model(int(port))})))
    assert "An engine of ours listens" in found[0].what
    assert words in told(found, severity)[-1]


def test_g4_b11_an_engine_that_hangs_is_told(box, monkeypatch):
    monkeypatch.setattr(ports, "PROBE_LIMIT", 0.2)
    box.installed()
    _, port = box.listener(mark=f"{box.install}:a")
    assert "does not answer within" in told(check(box.visit({"a": model(port)})), "warning")[0]


def test_an_engine_in_its_unit_is_ours(box, monkeypatch):
    monkeypatch.setattr(ports, "PROBE_LIMIT", 0.2)
    _, port = box.listener()
    monkeypatch.setattr(whose.occupants, "unit_of", lambda _pid, _proc: "llamacpp.service")
    found = list(check(box.visit({"a": model(port, service="llamacpp.service")})))
    assert "An engine of ours listens" in found[0].what


def test_a_free_port(box):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert told(check(box.visit({"a": model(port)}))) == [f"port {port}: It is free for a. → "]


def test_g4_engines_of_others_are_reached_or_not(box):
    process, port = box.listener()
    models = {"a": {"url": f"http://127.0.0.1:{port}/v1"}, "b": model(port, launcher="attached")}
    assert [finding.severity for finding in check(box.visit(models))] == ["ok", "ok"]
    process.kill()
    process.wait()
    found = told(check(box.visit(models)), "warning")
    assert [text.partition(":")[0] for text in found] == ["a", "b"]
    assert "refused" in found[0]


def test_ports_that_are_not_ours_to_use_are_not_looked_at(box):
    visit = box.visit({"a": model(None), "b": model(7, launcher="attached"), "c": {"url": "http://127.0.0.1:9/v1"}})
    assert ports_of(visit) == {}
