from pathlib import Path

import pytest
from typer.testing import CliRunner

import roundhouse.demo.run
from roundhouse.cli.root import app, main
from roundhouse.demo.problems import DemoError


@pytest.fixture
def asked(monkeypatch):
    """The demo's arguments instead of the demo, which fetches hundreds of megabytes; logs stay as pytest has them."""
    calls = []
    monkeypatch.setattr(roundhouse.demo.run, "demo", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr("roundhouse.observe.log.configure", lambda *_: None)
    return calls


def test_h_demo_listens_where_it_is_told(asked, tmp_path):
    ended = CliRunner().invoke(app, ["demo", "--listen", "127.0.0.1:9000", "--cache", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert asked == [("127.0.0.1:9000", Path(tmp_path)), ("127.0.0.1:8002", None)]


def test_a_demo_that_cannot_get_ready_says_so_in_a_line(asked, monkeypatch, capsys):
    def fail(*_):
        raise DemoError("There is no network.")

    monkeypatch.setattr(roundhouse.demo.run, "demo", fail)
    monkeypatch.setattr("sys.argv", ["roundhouse", "demo"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "roundhouse: There is no network.\n"
