import os
import signal
import socket
import subprocess

import pytest

from roundhouse.cli.serve import greeting, url_of
from roundhouse.config.models import Config
from tests.cli.commands import LIMIT, argv, environ, run
from tests.support.house import Place, Running, Scripted


@pytest.fixture
def place():
    made = Place()
    yield made
    made.remove()


def test_h_serve_without_configuration_exits_2(tmp_path):
    shown = run("serve", cwd=tmp_path, HOME=str(tmp_path), XDG_CONFIG_HOME="")
    assert shown.code == 2
    for part in (
        "--config",
        "$ROUNDHOUSE_CONFIG",
        "./roundhouse.yaml",
        "/etc/roundhouse/config.yaml",
        "`roundhouse init`",
    ):
        assert part in shown.err


def test_serve_with_a_wrong_file_names_its_lines_and_exits_2(place):
    place.file.write_text("models:\n  a: {pat: x}\n")
    shown = run("serve", ROUNDHOUSE_CONFIG=str(place.file))
    assert shown.code == 2
    assert f"{place.file}:2: models.a" in shown.err


def test_serve_on_a_taken_port_exits_1_naming_who(place):
    place.write([])
    with socket.create_server(("127.0.0.1", place.port)):
        shown = run("serve", "--config", str(place.file))
    assert shown.code == 1
    assert f"Port {place.port} on 127.0.0.1 is taken by pid {os.getpid()} (" in shown.err
    assert "user " in shown.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_and_ends_well_on_a_signal(place, number):
    place.write([Scripted(place.folder, "one", max_instances=2)])
    with subprocess.Popen(
        argv("serve", "--config", str(place.file)), stderr=subprocess.PIPE, text=True, env=environ(**place.environ)
    ) as serving:
        told = []
        for line in serving.stderr:
            told.append(line)
            if line.startswith("serving on"):
                break
        serving.send_signal(number)
        _, rest = serving.communicate(timeout=LIMIT)
    url = f"http://127.0.0.1:{place.port}"
    assert told[-1] == f"serving on {url} — 1 model; Open WebUI: {url}/v1\n"
    assert any("roundhouse: models.one.max_instances: one engine per model" in line for line in told)
    assert serving.returncode == 0
    assert "Traceback" not in rest


def test_f4_engine_keys_are_hidden_in_the_log(place):
    talker = Scripted(place.folder, "bad", "--die-at-start", "my key is topsecret99", api_key="topsecret99")
    place.write([talker])
    with Running(place) as running:
        shown = run("load", "bad", "--url", f"http://127.0.0.1:{place.port}")
        assert shown.code == 1
        log = running.log()
    assert "model failed to load" in log
    assert "topsecret99" not in log


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:8002", "http://127.0.0.1:8002"),
        ("[::1]:8002", "http://[::1]:8002"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        (":80", "http://127.0.0.1:80"),
    ],
)
def test_the_address_to_type(address, url):
    assert url_of(Config(listen=(address,))) == url
    assert greeting(Config(listen=(address,))).endswith(f"0 models; Open WebUI: {url}/v1")
