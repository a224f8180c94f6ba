"""Files changed before an engine starts (spec C6), and its keys (F2, F4)."""

from __future__ import annotations

import os

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.ports import Edit, KeyFile
from roundhouse.runtime import groundwork


def keys(path):
    def read(text: str) -> str:
        if "key" not in text:
            raise LoadFailed("no key in it")
        return text.split()[1]

    return KeyFile(path, read, lambda random: f"key {random()}")


def test_an_edit_keeps_the_first_text_beside_it_once(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("user's\n")
    groundwork.edit([Edit(file, lambda old: old + "ours\n")])
    groundwork.edit([Edit(file, lambda _old: "again\n")])
    assert file.read_text() == "again\n"
    assert (tmp_path / "config.yml.bak").read_text() == "user's\n"
    assert {path.name for path in tmp_path.iterdir()} == {"config.yml", "config.yml.bak"}


def test_an_edit_keeps_mode_and_line_ends(tmp_path):
    file = tmp_path / "config.yml"
    file.write_bytes(b"a\r\n")
    file.chmod(0o640)
    groundwork.edit([Edit(file, lambda old: old + "b\n")])
    assert file.read_bytes() == b"a\r\nb\n"
    assert file.stat().st_mode & 0o777 == 0o640


def test_an_edit_that_changes_nothing_writes_nothing(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("same")
    before = file.stat().st_ino
    groundwork.edit([Edit(file, lambda old: old)])
    assert file.stat().st_ino == before
    assert not (tmp_path / "config.yml.bak").exists()


def test_a_file_that_is_not_there_is_made_without_a_backup(tmp_path):
    groundwork.edit([Edit(tmp_path / "new.yml", lambda old: f"[{old}]")])
    assert (tmp_path / "new.yml").read_text() == "[]"
    assert [path.name for path in tmp_path.iterdir()] == ["new.yml"]


def test_an_edit_that_refuses_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text("broken: [")

    def refuse(_old: str) -> str:
        raise LoadFailed("it is no YAML")

    with pytest.raises(LoadFailed, match="no YAML"):
        groundwork.edit([Edit(file, refuse)])
    assert file.read_text() == "broken: ["
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LoadFailed, match=r"nowhere/c.yml can't be changed: no such file"):
        groundwork.edit([Edit(tmp_path / "nowhere" / "c.yml", lambda _old: "x")])


def test_f2_a_missing_key_file_is_made_for_its_owner_alone(tmp_path):
    path = tmp_path / "api_tokens.yml"
    assert groundwork.key_of(keys(path), make=False) is None
    key = groundwork.key_of(keys(path), make=True)
    assert key is not None
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert groundwork.key_of(keys(path), make=True) == key


def test_f2_the_mode_of_a_key_file_is_left_alone(tmp_path):
    path = tmp_path / "api_tokens.yml"
    path.write_text("key k")
    path.chmod(0o640)
    assert groundwork.key_of(keys(path), make=True) == "k"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_key_file_without_a_key_is_told(tmp_path):
    path = tmp_path / "api_tokens.yml"
    path.write_text("")
    with pytest.raises(LoadFailed, match="no key in it"):
        groundwork.key_of(keys(path), make=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_file_of_another_user_is_told(tmp_path):
    path = tmp_path / "api_tokens.yml"
    path.write_text("key k")
    path.chmod(0)
    with pytest.raises(LoadFailed, match=r"permission denied; run Roundhouse as the user"):
        groundwork.key_of(keys(path), make=False)


def test_a_key_file_that_can_t_be_read_is_told_with_what_to_do(tmp_path):
    with pytest.raises(LoadFailed, match=r"can't be used: is a directory; run Roundhouse as the user that owns"):
        groundwork.key_of(keys(tmp_path), make=False)
