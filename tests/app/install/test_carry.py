from __future__ import annotations

import pytest

from roundhouse.app.install import carry
from roundhouse.app.install.carry import Manifest, State
from roundhouse.app.install.plan import File
from roundhouse.app.install.problems import Forbidden, NotDone
from roundhouse.app.install.units import MARK


class Place:
    """An installation in a folder."""

    def __init__(self, folder):
        self.units, self.at = folder / "units", carry.manifest_path(folder / "etc", "roundhouse")
        self.units.mkdir()

    def file(self, name, text=""):
        return File(self.units / name, f"# {MARK}\n{text}")

    def states(self, *files):
        return carry.compare(files, carry.read_manifest(self.at) or Manifest())

    def write(self, *files):
        return carry.write(self.states(*files), carry.read_manifest(self.at) or Manifest(), self.at)

    def remove(self):
        return carry.remove(carry.read_manifest(self.at), self.at)

    def left(self):
        return sorted(str(path.relative_to(self.units)) for path in self.units.rglob("*"))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_what_was_written_is_removed_and_nothing_else(place):
    (place.units / "theirs.service").write_text("theirs")
    (place.units / "shared.d").mkdir()
    (place.units / "shared.d" / "theirs.conf").write_text("theirs")
    place.write(place.file("a.service"), place.file("own.d/50.conf"), place.file("shared.d/50.conf"))
    assert (place.units / "a.service").stat().st_mode & 0o777 == 0o644
    gone, kept = place.remove()
    assert (len(gone), kept) == (3, [])
    assert place.left() == ["shared.d", "shared.d/theirs.conf", "theirs.service"]
    assert not place.at.parent.exists()


def test_writing_again_changes_nothing(place):
    place.write(place.file("a.service"))
    before = (place.units / "a.service").stat()
    assert place.states(place.file("a.service")) == {place.file("a.service"): State.SAME}
    place.write(place.file("a.service"))
    assert (place.units / "a.service").stat().st_ino == before.st_ino


def test_ours_is_replaced_when_it_differs_and_what_is_not_needed_goes(place):
    place.write(place.file("a.service", "1"), place.file("b.d/50.conf"))
    assert place.states(place.file("a.service", "2")) == {place.file("a.service", "2"): State.OLD}
    gone = place.write(place.file("a.service", "2"))
    assert gone == [place.units / "b.d/50.conf"]
    assert place.left() == ["a.service"]
    assert place.remove()[1] == []


def test_files_of_others_are_refused_kept_aside_when_forced_and_put_back(place):
    theirs = place.units / "a.service"
    theirs.write_text("theirs")
    states = place.states(place.file("a.service"))
    with pytest.raises(Forbidden, match=r"a\.service: not ours"):
        carry.refuse(states, "")
    place.write(place.file("a.service"))
    place.write(place.file("a.service", "2"))  # what was kept aside is not lost by a second installation
    place.remove()
    assert theirs.read_text() == "theirs"
    assert place.left() == ["a.service"]


def test_changes_by_hand_are_refused_and_never_removed(place):
    place.write(place.file("a.service"), place.file("b.service"))
    (place.units / "a.service").write_text(f"# {MARK}\nmine")
    with pytest.raises(Forbidden, match=r"a\.service: changed by hand"):
        carry.refuse(place.states(place.file("a.service"), place.file("b.service")), "")
    gone, kept = place.remove()
    assert (gone, kept) == ([place.units / "b.service"], [place.units / "a.service"])


def test_a_link_is_replaced_and_not_followed(place, tmp_path):
    target = tmp_path / "target"
    target.write_text(f"# {MARK}\nelsewhere")
    (place.units / "a.service").symlink_to(target)
    place.write(place.file("a.service"))
    assert target.read_text().endswith("elsewhere")
    assert not (place.units / "a.service").is_symlink()


def test_a_link_that_leads_nowhere_is_not_ours(place, tmp_path):
    (place.units / "a.service").symlink_to(tmp_path / "nothing")
    assert place.states(place.file("a.service")) == {place.file("a.service"): State.FOREIGN}


def test_whatever_stops_the_writing_uninstall_knows_of_it(place):
    (place.units / "b.service").mkdir()  # can't be replaced by a file
    states = {place.file("a.service"): State.NEW, place.file("b.service"): State.NEW}
    with pytest.raises(NotDone, match="can't be written"):
        carry.write(states, Manifest(), place.at)
    assert carry.read_manifest(place.at).files.keys() == {str(file.path) for file in states}
    (place.units / "b.service").rmdir()
    for leftover in place.units.glob(".*"):
        leftover.unlink()
    place.remove()
    assert place.left() == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 1}'])
def test_a_damaged_manifest_is_told(place, text):
    place.at.parent.mkdir(parents=True)
    place.at.write_text(text)
    with pytest.raises(NotDone, match="can't be read"):
        carry.read_manifest(place.at)
