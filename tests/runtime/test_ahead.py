"""Whole readings with real files; the engines are made up."""

from __future__ import annotations

import asyncio
import os
import threading
from types import SimpleNamespace

import pytest

from roundhouse.config.models import ModelConfig
from roundhouse.core.model import Prefetch
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.runtime import ahead, pagecache
from roundhouse.runtime.ahead import Ahead
from roundhouse.runtime.pagecache import Outcome, residency

MIB = 1024**2


class Scene:
    """Models `a` and `b` of two pieces each, the second with a projector; `hold` keeps each reading at its first look."""

    def __init__(self, folder) -> None:
        self.files = {name: self._file(folder / f"{name}.gguf", 8 * MIB) for name in "ab"}
        self.beside = self._file(folder / "mmproj-b.gguf", MIB)
        models = {
            name: SimpleNamespace(
                engine=LlamaCpp(), config=ModelConfig(id=name, path=file, engine="llamacpp", mmproj=p)
            )
            for (name, file), p in zip(self.files.items(), (None, self.beside), strict=True)
        }
        self.free = threading.Event()
        self.free.set()
        self.looked = threading.Event()
        self.told: asyncio.Queue[tuple] = asyncio.Queue()
        self.ahead = Ahead(models, lambda *told: self.told.put_nowait(told), lambda: False, self._short)

    def _file(self, path, size):
        path.write_bytes(os.urandom(size))
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return path

    def _short(self, _size) -> None:
        self.looked.set()
        self.free.wait(30)

    async def held(self, model, *, wanted=True) -> None:
        """A reading that has begun and does not go on."""
        self.free.clear()
        self.looked.clear()
        self.ahead.begin(Prefetch(model, wanted))
        await asyncio.to_thread(self.looked.wait, 30)

    async def next(self) -> tuple:
        return await asyncio.wait_for(self.told.get(), 30)


@pytest.fixture
async def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    made.free.set()
    await made.ahead.close()


async def test_d12_all_files_of_a_model_are_read(scene):
    if residency([scene.files["b"]]).cached:
        pytest.skip("the temporary folder is not on a disk")
    scene.ahead.begin(Prefetch("b", wanted=True))
    model, report = await scene.next()
    assert (model, report.outcome, report.read) == ("b", Outcome.DONE, 9 * MIB)
    assert residency([scene.files["b"], scene.beside]).share == 1.0


async def outcomes(scene, count) -> dict:
    scene.free.set()
    told = dict([await scene.next() for _ in range(count)])
    return {model: report.outcome for model, report in told.items()}


async def test_d12_another_ones_ends_the_reading(scene):
    await scene.held("a")
    scene.ahead.begin(Prefetch("b", wanted=True))
    assert await outcomes(scene, 2) == {"a": Outcome.CANCELLED, "b": Outcome.DONE}


async def test_d12_it_ends_when_its_model_starts(scene):
    await scene.held("a")
    scene.ahead.starts("a")
    assert await outcomes(scene, 1) == {"a": Outcome.CANCELLED}


async def test_d12_one_that_is_waited_for_goes_on_when_another_starts(scene):
    await scene.held("a")
    scene.ahead.starts("b")
    assert await outcomes(scene, 1) == {"a": Outcome.DONE}


async def test_d12_a_guess_ends_when_any_engine_starts(scene):
    await scene.held("a", wanted=False)
    scene.ahead.starts("b")
    assert await outcomes(scene, 1) == {"a": Outcome.CANCELLED}


async def test_d12_a_guess_that_came_true_goes_on(scene):
    await scene.held("a", wanted=False)
    scene.ahead.begin(Prefetch("a", wanted=True))
    scene.ahead.starts("b")
    assert await outcomes(scene, 1) == {"a": Outcome.DONE}
    assert scene.told.empty()


async def test_d12_closing_ends_it(scene):
    await scene.held("a")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.ahead.close())
        assert await outcomes(scene, 1) == {"a": Outcome.CANCELLED}


async def test_closing_does_not_wait_for_a_disk_that_hangs(scene, monkeypatch):
    monkeypatch.setattr(ahead, "LAST_WORDS", 0.01)
    await scene.held("a")
    await asyncio.wait_for(scene.ahead.close(), 30)
    assert scene.told.empty()


async def test_a_file_that_vanished_is_told_with_its_model(scene):
    scene.files["a"].unlink()
    scene.ahead.begin(Prefetch("a", wanted=True))
    model, report = await scene.next()
    assert (model, report.outcome) == ("a", Outcome.FAILED)
    assert report.reason == f"{scene.files['a']}: no such file or directory"


async def test_while_an_engine_loads_it_reads_slower(scene, monkeypatch):
    rates = []

    def read_in(files, rate, cancelled, short):
        rates.append(rate())
        return pagecache.Report(Outcome.DONE, 0, 0, 0, 0.0)

    monkeypatch.setattr(pagecache, "read_in", read_in)
    for loading in (False, True):
        scene.ahead._loading = lambda loading=loading: loading
        scene.ahead.begin(Prefetch("a", wanted=True))
        await scene.next()
    assert rates == [ahead.RATE, ahead.SHARED_RATE]
