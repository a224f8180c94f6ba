from __future__ import annotations

from types import SimpleNamespace

import pytest

from roundhouse.app.doctor import tabby
from roundhouse.app.doctor.tabby import check
from tests.app.doctor.conftest import told


@pytest.fixture
def checkout(box, monkeypatch):
    """A TabbyAPI folder; its engine's description is reduced to what is asked of it."""
    folder = box.folder / "tabby"
    folder.mkdir()
    keys = SimpleNamespace(path=folder / "api_tokens.yml")
    monkeypatch.setattr(tabby.specs, "engine_of", lambda _model: SimpleNamespace(keys=lambda _model: keys))
    monkeypatch.setattr(tabby.specs, "port_of", lambda model: model.port or 5000)
    return folder


def findings(box, folder, **more):
    told_tabby = {"dir": str(folder), "model_dir": "/models", "model_name": "x"}
    models = {name: {"tabby": told_tabby} | more for name in ("a", "b")}
    return list(check(box.visit(models)))


def test_f4_keys_that_others_can_read(box, checkout):
    keys = checkout / "api_tokens.yml"
    keys.write_text("admin_key: hush\n")
    keys.chmod(0o644)
    (found,) = told(findings(box, checkout), "warning")
    assert "mode 0644" in found
    assert f"chmod 600 {keys}" in found
    assert "hush" not in found
    keys.chmod(0o600)
    assert told(findings(box, checkout), "warning") == []


def test_keys_that_do_not_exist_yet(box, checkout):
    assert "made before the first start" in told(findings(box, checkout), "note")[0]


@pytest.mark.parametrize(
    ("text", "severity", "words"),
    [
        ("model: {model_name: big}", "note", "model_name: big is loaded at every start"),
        ("model: {inline_model_loading: true}", "warning", "inline_model_loading is on"),
        ("network: {disable_auth: true}", "warning", "disable_auth is on"),
        ("network: {host: 0.0.0.0}", "warning", "listens on 0.0.0.0"),
        ("network: {port: 5001}", "error", "serves on port 5001, but Roundhouse expects port 5000"),
        ("network: [", "error", "start with its defaults"),
        ("network: \x01", "error", "start with its defaults"),
    ],
)
def test_g4_settings_that_work_against_us(box, checkout, text, severity, words):
    (checkout / "api_tokens.yml").touch(mode=0o600)
    (checkout / "config.yml").write_text(text)
    (found,) = told(findings(box, checkout), severity)
    assert words in found


@pytest.mark.parametrize("text", ["", "[]", "model:", "network: {host: 127.0.0.1, port: 5000}\nmodel: {model_name: }"])
def test_settings_that_are_fine(box, checkout, text):
    (checkout / "config.yml").write_text(text)
    assert told(findings(box, checkout), "warning") == told(findings(box, checkout), "error") == []


def test_no_checkout(box, checkout):
    (found,) = told(findings(box, checkout / "none"))
    assert "no TabbyAPI in it" in found
