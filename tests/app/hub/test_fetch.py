import errno
import hashlib
import shutil
from types import SimpleNamespace

import pytest

from roundhouse.app.hub import fetch
from roundhouse.app.hub.fetch import carry_out, check_space, plan
from roundhouse.app.hub.offers import HubFile
from roundhouse.app.hub.problems import HubProblem, HubRefusal
from roundhouse.app.hub.source import Listing
from tests.support.gguf_files import write_tiny_embedding
from tests.support.hub_double import git

CONTENT = bytes(range(256)) * 40


class Source:
    """A hub that says what a test wants; `ends` are the places where it breaks off."""

    def __init__(self, *contents, ends=(), deaf=False):
        self.contents = list(contents)
        self.ends = list(ends)
        self.deaf = deaf
        self.starts = []

    def read(self, _listing, file, into, start):
        self.starts.append(start)
        content = next(c for c in self.contents if len(c) == file.size)
        if start and self.deaf:
            into.seek(max(into.tell() - start, 0))
            into.truncate()
            start = 0
        end = self.ends.pop(0) if self.ends else len(content)
        into.write(content[start:end])
        if end < len(content):
            raise HubProblem("broke off")


def file_of(content, path="some/model.bin", **more):
    return HubFile(path, len(content), **({"sha256": hashlib.sha256(content).hexdigest()} | more))


def pull(source, folder, *files):
    told = []
    carry_out(source, Listing("r", "c", files), plan(files, folder), lambda name, count: told.append((name, count)))
    return told


def test_a_file_comes_whole_and_nothing_else_is_left(tmp_path):
    told = pull(Source(CONTENT), tmp_path / "new", file_of(CONTENT))
    assert (tmp_path / "new/model.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.bin"]
    assert told[-1] == ("model.bin", len(CONTENT))


@pytest.mark.parametrize("deaf", [False, True])
def test_a_broken_one_goes_on_where_it_ended_or_begins_anew(tmp_path, deaf):
    source = Source(CONTENT, ends=[5000, 7000], deaf=deaf)
    for _ in range(2):
        with pytest.raises(HubProblem, match="broke off"):
            pull(source, tmp_path, file_of(CONTENT))
        assert not (tmp_path / "model.bin").exists()
    pull(source, tmp_path, file_of(CONTENT))
    assert source.starts == [0, 5000, 7000]
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_another_version_does_not_go_on_from_this_ones_beginning(tmp_path):
    other = bytes(reversed(CONTENT))
    source = Source(CONTENT, ends=[5000])
    with pytest.raises(HubProblem):
        pull(source, tmp_path, file_of(CONTENT))
    source.contents = [other]
    pull(source, tmp_path, file_of(other))
    assert source.starts == [0, 0]
    assert (tmp_path / "model.bin").read_bytes() == other


def test_a_whole_part_is_not_asked_for_again(tmp_path):
    (step,) = plan([file_of(CONTENT)], tmp_path)
    step.part.write_bytes(CONTENT)
    source = Source(CONTENT)
    pull(source, tmp_path, file_of(CONTENT))
    assert source.starts == []


def test_a_part_that_is_too_long_begins_anew(tmp_path):
    (step,) = plan([file_of(CONTENT)], tmp_path)
    step.part.write_bytes(CONTENT + b"more")
    pull(Source(CONTENT), tmp_path, file_of(CONTENT))
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("hashes", [{"sha256": "0" * 64}, {"sha256": "", "git": "0" * 40}])
def test_a_wrong_hash_leaves_nothing(tmp_path, hashes):
    with pytest.raises(HubProblem, match=r"model.bin came, but not as the hub says"):
        pull(Source(CONTENT), tmp_path, file_of(CONTENT, **hashes))
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_is_checked_by_gits_hash(tmp_path):
    pull(Source(CONTENT), tmp_path, file_of(CONTENT, sha256="", git=git(CONTENT)))
    assert (tmp_path / "model.bin").exists()


def test_nothing_gets_its_name_before_all_are_whole(tmp_path):
    second = CONTENT[:3000]
    files = [file_of(CONTENT, "a.bin"), file_of(second, "b.bin")]
    source = Source(CONTENT, second, ends=[len(CONTENT), 10])
    with pytest.raises(HubProblem):
        pull(source, tmp_path, *files)
    assert not (tmp_path / "a.bin").exists()
    pull(source, tmp_path, *files)
    assert source.starts == [0, 0, 10]
    assert {path.name for path in tmp_path.iterdir()} == {"a.bin", "b.bin"}


def test_what_is_there_is_checked_and_not_fetched(tmp_path):
    (tmp_path / "model.bin").write_bytes(CONTENT)
    source = Source()
    assert plan([file_of(CONTENT)], tmp_path)[0].missing == 0
    assert pull(source, tmp_path, file_of(CONTENT))[-1] == ("model.bin", len(CONTENT))
    assert source.starts == []


@pytest.mark.parametrize(("there", "said"), [(b"short", "its size differs"), (CONTENT[::-1], "its hash differs")])
def test_another_file_of_that_name_is_left_as_it_is(tmp_path, there, said):
    (tmp_path / "model.bin").write_bytes(there)
    with pytest.raises(HubRefusal, match=said):
        pull(Source(CONTENT), tmp_path, file_of(CONTENT))
    assert (tmp_path / "model.bin").read_bytes() == there


def test_two_at_once_are_one_too_many(tmp_path):
    (step,) = plan([file_of(CONTENT)], tmp_path)
    with fetch._held(step.part), pytest.raises(HubRefusal, match="is being pulled already"):
        pull(Source(CONTENT), tmp_path, file_of(CONTENT))


def test_a_full_disk_is_told_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(CONTENT) - 1))
    steps = plan([file_of(CONTENT)], tmp_path / "not/there/yet")
    with pytest.raises(HubProblem, match="has 1 MiB free, and 1 MiB are to come"):
        check_space(steps, tmp_path / "not/there/yet")
    steps[0].path.parent.mkdir(parents=True)
    steps[0].part.write_bytes(b"x")
    check_space(plan([file_of(CONTENT)], tmp_path / "not/there/yet"), tmp_path)


def test_a_disk_that_can_not_be_looked_at_is_told(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", refused)
    with pytest.raises(HubProblem, match="can't be written: Permission denied"):
        check_space(plan([file_of(CONTENT)], tmp_path), tmp_path)


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_gets_full_keeps_what_has_come(tmp_path, kind):
    class Full(Source):
        def read(self, listing, file, into, start):
            if not start:
                into.write(CONTENT[:4000])
                raise OSError(kind, "no room")
            super().read(listing, file, into, start)

    source = Full(CONTENT)
    with pytest.raises(HubProblem, match=r"is full.*What has come is kept"):
        pull(source, tmp_path, file_of(CONTENT))
    pull(source, tmp_path, file_of(CONTENT))
    assert source.starts == [4000]


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HubProblem, match=r"file.* can't be written: Not a directory"):
        pull(Source(CONTENT), tmp_path / "file/below", file_of(CONTENT))


def test_a_gguf_file_that_is_none_gets_no_name(tmp_path):
    with pytest.raises(HubProblem, match=r"x.gguf is as the hub has it, but is no usable GGUF file"):
        pull(Source(CONTENT), tmp_path, file_of(CONTENT, "x.gguf"))
    assert not (tmp_path / "x.gguf").exists()


def test_a_gguf_file_that_is_one_gets_it(tmp_path):
    content = write_tiny_embedding(tmp_path / "made.gguf").read_bytes()
    pull(Source(content), tmp_path / "into", file_of(content, "x.gguf"))
    assert (tmp_path / "into/x.gguf").exists()
