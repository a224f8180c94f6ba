from __future__ import annotations

from roundhouse.app.doctor.models import advice_about, check
from tests.app.doctor.conftest import told
from tests.support.gguf_files import write_tiny_chat


def test_g4_a_missing_file_and_a_good_one(box):
    good = write_tiny_chat(box.folder / "good.gguf", "good")
    found = list(check(box.visit({"good": {"path": str(good)}, "bad": {"path": "none.gguf", "engine": "llamacpp"}})))
    assert told(found, "ok")[0].startswith("good: Its files are there (llamacpp")
    assert "none.gguf does not exist" in told(found, "error")[0]


def test_g4_a_file_that_can_not_be_read(box, monkeypatch):
    """Root, as which tests may run, can read everything; so the system's answer is ours."""
    good = write_tiny_chat(box.folder / "good.gguf", "good")
    visit = box.visit({"good": {"path": str(good)}})
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "good.gguf can't be read by this user" in told(check(visit), "error")[0]


def test_g4_a_script_that_may_not_be_run(box):
    script = box.program("start.sh", "exec serve --port 5")
    script.chmod(0o644)
    visit = box.visit({"m": {"script": str(script), "engine": "openai", "port": 5}})
    assert f"chmod +x {script}" in told(check(visit), "error")[0]


def test_advice_comes_with_its_weight(box):
    script = box.program("start.sh", "serve --host 0.0.0.0 --port 5")
    visit = box.visit({"m": {"script": str(script), "engine": "openai", "port": 5}})
    found = list(check(visit))
    assert "m: Its command has the engine listen on 0.0.0.0" in told(found, "warning")[0]
    assert any("`exec serve …`" in text for text in told(found, "note"))
    assert len(advice_about(visit.config.models["m"])) == len(found) - 1


def test_a_configuration_without_models(box):
    assert "names no models" in told(check(box.visit()), "warning")[0]
