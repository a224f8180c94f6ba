"""Weights are read into the page cache while the model before still answers (spec D12), with a real llama-server."""

from __future__ import annotations

import asyncio
import os

import pytest

from roundhouse.runtime.pagecache import residency
from tests.support.gguf_files import write_tiny_chat
from tests.support.house import Place, inside
from tests.support.real_engine import real_build
from tests.support.wire import Api

pytestmark = pytest.mark.real


@pytest.fixture
def place():
    """Two models of which one fits; the weights of `beta` are on the disk alone."""
    llama, place = real_build(), Place()
    write_tiny_chat(place.folder / "alpha.gguf", "alpha", n_ctx=65536)
    beta = write_tiny_chat(place.folder / "beta.gguf", "beta")
    with beta.open("rb") as file:
        os.fsync(file.fileno())  # what is not on the disk yet stays in the page cache
    models = {
        name: {"path": str(place.folder / f"{name}.gguf"), "memory": "900MiB", "args": ["--threads", 1]}
        for name in ("alpha", "beta")
    }
    models["alpha"] |= {"context": 65536, "slots": 1}  # some 20 s of tokens
    settings = {"engines": {"llamacpp": {"binary": llama.argv[0]}}} if len(llama.argv) == 1 else {}
    place.write(models, **settings)
    yield place
    place.remove()


async def test_d12_while_one_drains_the_next_ones_weights_are_read(place):
    beta = place.folder / "beta.gguf"
    async with inside(place) as house:
        api = Api(place.port)
        assert (await api.chat("alpha")).status == 200
        evict(beta)  # its headers were read
        if residency([beta]).share == 1.0:
            pytest.skip("the temporary folder is not on a disk")
        loop = asyncio.get_running_loop()
        async with house.bus.subscribe() as feed:
            drains = loop.create_task(api.chat("alpha", max_tokens=-1, ignore_eos=True, stream=True))
            await active(house)
            waits = loop.create_task(api.chat("beta"))
            told = await message(feed, "prefetched")
            assert (told["model"], told["outcome"]) == ("beta", "done")
            assert told["read"] > 0
            assert residency([beta]).share == 1.0
            fleet = house.supervisor.fleet
            assert fleet.models["beta"].instance is None
            assert fleet.models["alpha"].instance.phase == "draining"
            drains.cancel()
            assert (await waits).status == 200
        text = (await api.get("/metrics")).body.decode()
        assert 'roundhouse_prefetches_total{model="beta",outcome="done"} 1.0' in text


def evict(file) -> None:
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def active(house) -> None:
    async with asyncio.timeout(60):
        while not any(use.active for use in house.supervisor.fleet.use.values()):
            await asyncio.sleep(0.01)


async def message(feed, kind) -> dict:
    async with asyncio.timeout(60):
        async for found in feed:
            if found.kind == kind:
                return dict(found.data)
    raise AssertionError(f"no {kind}")
