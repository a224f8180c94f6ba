"""What lies on disk for a unit, and who may read it."""

from __future__ import annotations

import os
import stat

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd.place import Places, Record, is_us
from roundhouse.ports import Tag

RECORD = Record(Tag("model", "settings", 4711, 1.5), "x.service", "abc", user=False)


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "units", tmp_path / "starts", tmp_path / "drop", public=False)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_laid_and_removed_again(places, tmp_path):
    place = places.of("x.service")
    place.lay("secret", "")
    place.lay_drop_in()
    place.keep(RECORD)
    assert place.start == tmp_path / "starts/x/start"
    assert place.record == tmp_path / "units/x/tag.json"
    assert (mode(place.folder), mode(place.start), mode(place.record)) == (0o700, 0o600, 0o600)
    assert stat.S_ISFIFO(place.pipe.stat().st_mode)
    assert place.drop_in == tmp_path / "drop/x.service.d/50-roundhouse.conf"
    assert str(place.start) in place.drop_in.read_text()
    assert list(places.recorded()) == [RECORD]
    place.lay("anew", "")
    assert place.remove() is True
    assert place.remove() is False
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.is_fifo()] == []


def test_files_of_others_beside_ours_stay(places):
    place = places.of("x.service")
    place.lay_drop_in()
    other = place.drop_in.with_name("override.conf")
    other.write_text("[Service]\n")
    assert place.remove() is True
    assert other.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tag": {"model": "m"}}', '{"tag": 1}', "\ud800"])
def test_a_damaged_record_is_none(places, text):
    path = places.of("x.service").record
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert list(places.recorded()) == []
    assert not path.exists()


def test_a_planted_folder_is_refused(places, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "starts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="not a folder of this user"):
        places.of("x.service").lay("secret", "")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_roots_start_files_belong_to_the_units_user(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    place = Places(tmp_path / "units", tmp_path / "starts", tmp_path / "drop", public=True).of("x.service")
    place.lay("secret", "games")
    assert (mode(place.folder), mode(place.start), place.start.stat().st_uid) == (0o711, 0o600, 5)
    assert place.pipe.stat().st_uid == 5
    place.lay("secret", "5")
    assert place.start.stat().st_uid == 5


def test_a_user_that_does_not_exist_is_told(places):
    with pytest.raises(LoadFailed, match="User=nobodyatall"):
        places.of("x.service").lay("x", "nobodyatall")


def test_who_we_are(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    assert is_us("games")
    assert is_us("5")
    assert not is_us("")  # the system's manager runs as root
    assert not is_us("root")
    assert not is_us("nobodyatall")
