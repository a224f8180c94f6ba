from tests.cli.commands import run


def test_g3_init_writes_a_file_that_check_takes(tmp_path):
    assert run("init", cwd=tmp_path).code == 0
    checked = run("check", cwd=tmp_path, HOME=str(tmp_path))
    assert checked.code == 0, checked.err
    assert "no models" in checked.out


def test_init_never_writes_over_a_file_unless_told_to(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    refused = run("init", str(file))
    assert refused.code == 1
    assert "--force" in refused.err
    assert file.read_text() == "mine"
    assert run("init", str(file), "--force", "--json").json == {"path": str(file)}
    assert "models:" in file.read_text()


def test_init_where_nothing_can_be_written(tmp_path):
    shown = run("init", str(tmp_path / "no" / "folder.yaml"))
    assert shown.code == 1
    assert "No such file" in shown.err
    assert "Traceback" not in shown.err
