"""How SGLang and vLLM end, and that nothing of them stays under our launcher (spec E2, E3), doubles and real ones alike.

The first half is what they do when nobody looks after them: it is why the second half is needed, and what makes the
doubles worth believing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roundhouse.launchers.process import ProcessLauncher
from roundhouse.ports import Command, Tag
from tests.real.subject import PROCESSES, REAL, SHORT, alone, below, importing, tree
from tests.real.subject import double as make_double
from tests.support.house import free_port
from tests.support.processes import Watched, none_left, survivors
from tests.support.wire import chat

CONTROLLER = Path(__file__).parent.parent / "support" / "controller.py"
TRACKER = 1  # of the children, the resource tracker: it ends when all others have


@pytest.mark.skipif(bool(REAL), reason="they run")
def test_real_engines_are_opt_in():
    pytest.skip("real SGLang and vLLM: make test-engines, or ROUNDHOUSE_REAL_ENGINES=sglang,vllm")


# --- by themselves ---


async def test_processes_have_their_names_and_hide_their_environment(subject, install):
    async with alone(subject, install) as (process, port):
        await subject.ready(port)
        found = below(process.pid)
        assert set(found.values()) >= PROCESSES[subject.engine]
        assert len(found) == 2 + TRACKER
        for pid in found:
            assert f"ROUNDHOUSE_ENGINE={install}" in Path(f"/proc/{pid}/environ").read_text()  # SPT_NOENV=1


async def test_sglang_killed_takes_its_children_along(sglang, install):
    async with alone(sglang, install) as (process, port):
        await sglang.ready(port)
        processes = tree(process.pid)
        process.kill()
        assert await asyncio.to_thread(survivors, processes) == []


async def test_sglang_told_to_end_while_it_loads_leaves_orphans(sglang, install):
    async with alone(sglang, install, hang_at="import") as (process, _):
        processes = await importing(sglang, process.pid)
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        assert len(survivors(processes, within=1)) == 3


async def test_sglang_told_to_end_drains_and_still_accepts(sglang, install):
    async with alone(sglang, install) as (process, port):
        api = await sglang.ready(port)
        async with sglang.streaming(api, SHORT) as answer:
            process.terminate()
            while (await api.get("/ready")).status != 503:
                await asyncio.sleep(0.01)
            assert (await api.post("/v1/chat/completions", chat("tiny", max_tokens=2))).status == 200
            assert (await answer.events()).done
        assert await process.wait() == 0


async def test_sglang_loses_a_child_and_goes(sglang, install):
    async with alone(sglang, install) as (process, port):
        await sglang.ready(port)
        processes = tree(process.pid)
        next(one for name, one in processes.items() if "schedul" in name).signal()
        assert await process.wait() == -signal.SIGKILL  # the real one takes 65 s to write down what happened
        assert await asyncio.to_thread(survivors, processes) == []


async def test_vllm_killed_leaves_its_children(vllm, install):
    async with alone(vllm, install) as (process, port):
        await vllm.ready(port)
        processes = tree(process.pid)
        process.kill()
        await process.wait()
        left = [name.split()[0] for name in survivors(processes, within=1)]
        assert set(left) >= PROCESSES["vllm"]


async def test_vllm_told_to_end_stalls_an_open_stream_or_cuts_it(vllm, install):
    """Which of the two is a race between its engine's end and its own. It stays for as long as a stalled client does."""
    async with alone(vllm, install) as (process, port):
        api = await vllm.ready(port)
        async with vllm.streaming(api) as answer:
            engine = next(one for name, one in tree(process.pid).items() if "EngineCor" in name)
            process.terminate()
            assert await asyncio.to_thread(engine.gone, 30)
            try:
                async with asyncio.timeout(1):
                    await answer.rest()
            except TimeoutError:
                assert b"[DONE]" not in answer.raw
                assert process.returncode is None
            else:
                assert b"EngineCore encountered an issue" in answer.raw
        assert await asyncio.wait_for(process.wait(), vllm.patience) == 0


@pytest.mark.parametrize("owns_up", [False, True])
async def test_the_double_of_vllm_does_either_on_demand(folder, install, owns_up):
    subject = make_double(folder, "vllm")
    async with alone(subject, install, owns_up=owns_up) as (process, port):
        api = await subject.ready(port)
        async with subject.streaming(api) as answer:
            process.terminate()
            if owns_up:
                events = await answer.events()
                assert events.errors[0]["code"] == 500
                assert events.done
                assert not events.finishes
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await answer.rest()
        assert await process.wait() == 0


async def test_vllm_with_a_shutdown_timeout_drains_and_refuses_new_requests(vllm, install):
    async with alone(vllm, install, "--shutdown-timeout", "120") as (process, port):
        api = await vllm.ready(port)
        async with vllm.streaming(api, SHORT) as answer:
            process.terminate()
            while (await api.post("/v1/chat/completions", chat("tiny", max_tokens=2))).status != 500:
                await asyncio.sleep(0.01)
            assert (await api.get("/health")).status == 200
            assert (await answer.events()).done
        assert await process.wait() == 0


# --- under our launcher ---


@pytest.fixture
async def launcher(folder, install):
    async with ProcessLauncher(folder / "run", folder / "logs", install, 0.5, spare=False, term_grace=0.5) as found:
        yield found


async def start(launcher, subject, **behaviour):
    """A handle and the port of an engine that begins to load."""
    port = free_port()
    tag = Tag("tiny", "settings", port, 0.0)
    return await launcher.start(tag, Command(subject.argv(port), subject.environ(**behaviour))), port


async def stopped(handle, grace):
    """Stops it; everything it had is gone when that returns."""
    processes = tree(handle.pid)
    ending = await handle.stop(grace)
    assert ending.by_us
    assert survivors(processes, within=0) == []
    return ending


async def test_e2_an_idle_engine_ends_in_its_grace(subject, launcher):
    handle, port = await start(launcher, subject)
    await subject.ready(port)
    assert (await stopped(handle, 60)).code == 0


async def test_e2_an_open_stream_does_not_keep_an_engine_alive(subject, launcher):
    handle, port = await start(launcher, subject)
    api = await subject.ready(port)
    async with subject.streaming(api):
        # The real vLLM sometimes cuts the stream itself and ends with 0, see the test of what it does when told to end.
        kinds = {-signal.SIGKILL, 0} if subject.engine == "vllm" else {-signal.SIGKILL}
        assert (await stopped(handle, 0.5)).code in kinds


async def test_e2_an_engine_stopped_while_it_loads_leaves_no_orphan(subject, launcher):
    handle, _ = await start(launcher, subject, hang_at="import")
    await importing(subject, handle.pid)
    await stopped(handle, 10)


async def test_e2_an_engine_killed_by_another_leaves_nothing(subject, launcher):
    handle, port = await start(launcher, subject)
    await subject.ready(port)
    processes = tree(handle.pid)
    os.kill(handle.pid, signal.SIGKILL)
    ending = await handle.wait_exit()
    assert (ending.code, ending.by_us) == (-signal.SIGKILL, False)
    assert survivors(processes, within=0) == []


async def test_e2_an_engine_that_does_not_hear_sigterm_is_killed(subject, launcher):
    handle, port = await start(launcher, subject)
    await subject.ready(port)
    os.kill(handle.pid, signal.SIGSTOP)
    assert (await stopped(handle, 1)).code == -signal.SIGKILL


async def test_e2_an_engine_in_its_death_throes_is_ended(subject, launcher):
    """The real SGLang stays for 65 s when a child of it has died, and answers nobody."""
    handle, port = await start(launcher, subject, crash_wait=600)
    await subject.ready(port)
    processes = tree(handle.pid)
    next(one for name, one in processes.items() if name.startswith(tuple(PROCESSES[subject.engine]))).signal()
    await handle.stop(0.5)
    assert survivors(processes, within=0) == []


async def test_e3_roundhouse_killed_and_not_come_back(subject, folder, install):
    port = free_port()
    argv = [sys.executable, CONTROLLER, folder / "run", folder / "logs", install, 0.5, *subject.argv(port)]
    log = folder / "out"
    with log.open("w") as out:
        controller = subprocess.Popen([str(word) for word in argv], stdout=out, env=os.environ | subject.environ())
    try:
        await subject.ready(port)
        told = json.loads(log.read_text().splitlines()[0])
        processes = tree(told["pid"]) | {"keeper": Watched(told["keeper"])}
        async with subject.streaming(await subject.ready(port)):
            controller.kill()
            assert await asyncio.to_thread(survivors, processes) == []
    finally:
        controller.kill()
        controller.wait()
    assert none_left(install) == []


# --- only doubles do that on demand ---


@pytest.fixture(params=["sglang", "vllm"])
def double(request, folder):
    return make_double(folder, request.param)


async def test_e2_a_deaf_engine_and_its_deaf_children_end(double, launcher, folder):
    handle, port = await start(launcher, double, deaf=True, record=folder / "record")
    await double.ready(port)
    assert (await stopped(handle, 0.3)).code == -signal.SIGKILL
    assert '"deaf"' in (folder / "record").read_text()


async def test_e2_a_leaked_daemon_ends_with_its_engine(double, launcher, folder):
    handle, port = await start(launcher, double, leak=True, record=folder / "record")
    await double.ready(port)
    notes = [json.loads(line) for line in (folder / "record").read_text().splitlines()]
    daemon = Watched(next(note["child"] for note in notes if note["what"] == "leaked"))
    assert os.getsid(daemon.pid) != os.getsid(handle.pid)
    await stopped(handle, 10)
    assert daemon.gone()
