"""`models add|remove|edit` as people use them."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import run, run_here, stub
from tests.support.house import Place, Running, Scripted

FILE = """\
# mine
models_dir: models
models:
  # the small one
  a:
    url: http://127.0.0.1:9/v1   # here
    context: 1
  b: {url: "http://127.0.0.1:9/v1"}
  both: {any_of: [a, b]}

# end
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "models").mkdir()
    path = tmp_path / "roundhouse.yaml"
    path.write_text(FILE)
    return path


def models(file, *arguments, **env):
    return run_here("models", *arguments, "--config", str(file), HOME=str(file.parent), **env)


def test_g3_a_model_is_added_by_its_path(file):
    gguf = file.parent / "x y.gguf"
    gguf.write_bytes(b"GGUF")
    shown = models(file, "add", "new", "--path", str(gguf), "--set", "context=8192", "--set", "load_timeout.total=1h")
    assert (shown.code, shown.err) == (0, "")
    assert "new: added" in shown.out
    assert "roundhouse apply" in shown.out
    new = f'  new:\n    path: "{gguf}"\n    context: 8192\n    load_timeout: {{total: 1h}}\n'
    assert file.read_text() == FILE.replace("[a, b]}\n", f"[a, b]}}\n{new}").replace(new, new)
    assert models(file, "remove", "new").code == 0
    assert file.read_text() == FILE


def test_g3_settings_are_changed_and_taken_out(file):
    assert models(file, "edit", "a", "--set", "context=8192", "--set", "env.X=$$1").code == 0
    assert file.read_text() == FILE.replace("context: 1\n", 'context: 8192\n    env: {X: "$$1"}\n')
    assert models(file, "edit", "a", "--unset", "env.X", "--set", "context=1").code == 0
    assert file.read_text() == FILE
    assert "says so already" in models(file, "edit", "a", "--set", "context=1").out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("edit", "a", "--set", "context=x"), 2, "roundhouse.yaml:7: models.a.context"),
        (("edit", "a", "--set", "contxt=1"), 2, "context"),
        (("edit", "a", "--set", "context"), 2, "KEY=VALUE"),
        (("edit", "a", "--set", "context=["), 2, "no value"),
        (("edit", "a", "--set", "a..b=1"), 2, "no setting"),
        (("edit", "a", "--unset", "ttl"), 4, "not set"),
        (("edit", "a", "--unset", "url", "--unset", "context"), 2, "says nothing about what to run"),
        (("edit", "c", "--set", "context=1"), 4, "no model 'c'"),
        (("add", "a", "--path", "/"), 4, "already"),
        (("add", "new", "--path", "/x/none.gguf"), 2, "There is no /x/none.gguf"),
        (("add", "new"), 2, "--path"),
        (("add", "new", "--set", "aliases=[b]", "--set", "url=http://h/v1"), 2, "id of another model"),
        (("remove", "c"), 4, "no model 'c'"),
        (("remove", "a"), 4, "models.both.any_of"),
    ],
)
def test_what_is_wrong_is_told_and_the_file_stays(file, arguments, code, told):
    shown = models(file, *arguments)
    assert (shown.code, told in shown.err) == (code, True), shown
    assert file.read_text() == FILE


def test_removed_by_force_also_where_others_name_it(file):
    assert models(file, "remove", "a", "--force").code == 0
    assert "any_of: [b]" in file.read_text()
    assert "small one" not in file.read_text()
    assert models(file, "remove", "b", "--force").code == 4


def test_a_dry_run_and_json(file):
    shown = models(file, "edit", "a", "--set", "context=2", "--dry-run")
    assert "\n-    context: 1\n+    context: 2\n" in shown.out
    told = models(file, "edit", "a", "--set", "context=2", "--dry-run", "--json").json
    assert (told["changed"], told["written"]) == (True, False)
    assert file.read_text() == FILE
    assert models(file, "edit", "a", "--set", "context=2", "--json").json["written"] is True


def test_a_model_of_a_folder_gets_an_entry_and_is_not_removed_without_one(file):
    (file.parent / "models/small.gguf").write_bytes(b"GGUF")
    refused = models(file, "remove", "small")
    assert (refused.code, "models_dir" in refused.err) == (4, True)
    assert models(file, "edit", "small", "--set", "context=512").code == 0
    assert f"  small:\n    path: {file.parent}/models/small.gguf\n    context: 512\n" in file.read_text()


def test_apply_asks_the_roundhouse_that_runs_with_this_file(file):
    told = {"file": str(file), "error": None, "changes": [], "warnings": [], "restarts": []}
    with stub({"GET /api/v1/plan": (200, told), "POST /api/v1/reload": (200, told | {"applied": True})}) as there:
        shown = models(file, "edit", "a", "--set", "context=2", "--apply", "--url", there.url)
        assert (shown.code, [asked.path for asked in there.asked]) == (0, ["/api/v1/plan", "/api/v1/reload"])
        shown = models(file, "edit", "a", "--set", "context=3", "--apply", "--url", there.url, "--json")
        assert shown.json["reload"]["applied"] is True
        there.answers["GET /api/v1/plan"] = (200, told | {"file": "/other"})
        shown = models(file, "edit", "a", "--set", "context=4", "--apply", "--url", there.url)
        assert (shown.code, "runs with /other" in shown.err) == (4, True)
        del there.answers["GET /api/v1/plan"]
        shown = models(file, "edit", "a", "--set", "context=5", "--apply", "--url", there.url)
        assert (shown.code, "Restart Roundhouse" in shown.err) == (4, True)
    assert "context: 5" in file.read_text()


def test_a_model_of_another_program_by_its_name(file):
    folder = file.parent / ".lmstudio/models/me/small"
    folder.mkdir(parents=True)
    (folder / "small-Q4_0.gguf").write_bytes(b"GGUF")
    found = run("models", "discover", "--json", HOME=str(file.parent), cwd=file.parent).json
    names = [model["name"] for model in found["models"] if model["problem"] is None]
    for name in names:
        assert models(file, "add", name).code == 0
        assert str(folder) in file.read_text()


def test_g3_a_running_roundhouse_takes_it_over():
    place = Place()
    place.write([Scripted(place.folder, "one")], reload={"watch": False})
    with Running(place):
        url = f"http://127.0.0.1:{place.port}"
        where = ("--config", str(place.file), "--url", url, "--apply")
        command = json.loads(place.file.read_text())["models"]["one"]["command"]
        shown = run("models", "add", "two", "--set", f"command={json.dumps(command)}", *where)
        assert (shown.code, "model two: added" in shown.out) == (0, True), shown
        assert run("load", "two", "--url", url).code == 0
        shown = run("models", "edit", "two", "--set", "slots=2", *where)
        assert "two: restarted, after running answers. All other models keep running." in shown.out
        assert "two: ended, after running answers." in run("models", "remove", "two", *where).out
        assert run("load", "two", "--url", url).code == 4
    place.remove()
