import os

import pytest

from roundhouse.config import saving


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(saving.BOM + b"a: 1\r\n")
    return path


def test_written_whole_with_its_mark_and_mode_and_nothing_left_beside(file):
    file.chmod(0o640)
    original = saving.read(file)
    assert original.text == "a: 1\r\n"
    saving.write(original, "ä: 2\r\n")
    assert file.read_bytes() == saving.BOM + "ä: 2\r\n".encode()
    assert file.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(file.parent) == ["c.yaml"]


def test_a_link_is_followed(file, tmp_path):
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub/link.yaml"
    link.symlink_to(file)
    saving.write(saving.read(link), "b: 1\n")
    assert link.is_symlink()
    assert file.read_bytes() == saving.BOM + b"b: 1\n"


def test_changed_meanwhile_is_refused(file):
    original = saving.read(file)
    file.write_text("other: 1\n")
    with pytest.raises(saving.SaveError, match="changed by someone else"):
        saving.write(original, "b: 1\n")
    assert file.read_text() == "other: 1\n"
    file.unlink()
    with pytest.raises(saving.SaveError, match="no such file"):
        saving.write(original, "b: 1\n")


def test_where_the_disk_is_full_the_file_stays(file, monkeypatch):
    original = saving.read(file)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(saving.SaveError, match=r"no space left on device\. It is as it was"):
        saving.write(original, "b: 1\n")
    assert file.read_bytes() == original.raw
    assert os.listdir(file.parent) == ["c.yaml"]


def test_what_can_not_be_read(tmp_path):
    with pytest.raises(saving.SaveError, match="can't be read"):
        saving.read(tmp_path / "none")
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(saving.SaveError, match="UTF-8"):
        saving.read(tmp_path / "x")
