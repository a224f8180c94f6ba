"""Ending, crashing and coming back: nothing is lost, nothing is left (spec E1, E2, E3, E5)."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from tests.support.fake_engine import EMOJI
from tests.support.house import Running, Scripted
from tests.support.processes import Watched

ANSWER = "".join(EMOJI)


async def test_e5_streams_finish_and_those_who_wait_are_told(place):
    one, two = Scripted(place.folder, "one", memory="600MiB"), Scripted(place.folder, "two", memory="600MiB")
    place.write([one, two])
    gate = place.gate("end")
    with Running(place) as running:
        api = running.api
        async with api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as first:
            await first.until(EMOJI[0])
            waiting = asyncio.get_running_loop().create_task(api.chat("two"))
            while not (await api.model("two"))["waiting"]:
                await asyncio.sleep(0.02)
            async with api.stream("two") as second:
                await second.until("⏳")
                running.terminate()
                refused = await waiting
                assert refused.status == 503
                assert refused.error()["code"] == "shutting_down"
                told = await second.events()
                assert told.errors[0]["code"] == "shutting_down"
                assert told.done
            gate.touch()
            events = await first.events()
            assert events.text_of_answer == ANSWER
            assert events.done
            assert not events.errors
        engine = Watched(one.pid)
        assert running.wait() == 0
        assert engine.gone()
        engine.close()
        assert two.starts == 0
        assert "Traceback" not in running.log()


async def test_e5_an_answer_over_the_limit_ends_with_an_error_event(place):
    one = Scripted(place.folder, "one")
    place.write([one], shutdown={"drain": "1s"})
    with Running(place) as running:
        async with running.api.stream("one", fake={"endless": True, "delay": 0.01}) as answer:
            await answer.until("xxx")
            running.terminate()
            events = await answer.events()
        assert events.errors[-1]["code"] == "shutting_down"
        assert events.done
        assert running.wait() == 0


async def test_e5_open_feeds_do_not_hold_up_the_end(place):
    place.write([Scripted(place.folder, "one", preload=True)])
    with Running(place) as running:
        async with (
            running.api.open("GET", "/api/v1/events") as feed,
            running.api.open("GET", "/api/v1/models/one/log?follow=1") as log,
        ):
            await feed.until("snapshot")
            await log.until("ready")
            running.terminate()
            await feed.rest()
            await log.rest()
            assert running.wait() == 0


async def test_e5_systemd_hands_over_the_socket_and_hears_of_readiness(place):
    place.write([Scripted(place.folder, "one")])
    notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notes.bind(str(place.folder / "notify"))
    notes.settimeout(30)
    inherit = (
        "import os,sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    with notes, socket.create_server(("127.0.0.1", place.port)) as listener:
        wrapper = [sys.executable, "-c", inherit, str(listener.fileno())]
        environ = {"NOTIFY_SOCKET": str(place.folder / "notify")}
        with Running(place, environ=environ, wrapper=wrapper, pass_fds=(listener.fileno(),)) as running:
            assert b"READY=1" in notes.recv(4096)
            assert (await running.api.chat("one")).status == 200
            assert running.end() == 0
            assert b"STOPPING=1" in notes.recv(4096)
            # Nobody serves now; who connects waits in the socket until somebody does.
            asking = asyncio.get_running_loop().create_task(running.api.get("/v1/models"))
            await asyncio.to_thread(running.start)
            assert (await asking).status == 200


async def test_e3_engines_get_our_mark_and_nothing_of_systemd(place):
    model = Scripted(place.folder, "one")
    place.write([model])
    with Running(place, environ={"WATCHDOG_USEC": "30000000", "NOTIFY_SOCKET": "@nobody"}) as running:
        await running.api.chat("one")
        environ = dict(line.split("=", 1) for line in _environ(model.pid))
        assert environ["ROUNDHOUSE_ENGINE"] == f"{place.install}:one"
        assert environ["PORT"] == str(model.notes("start")[0]["port"])
        assert environ["SPT_NOENV"] == "1"
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(environ)


def _environ(pid):
    with open(f"/proc/{pid}/environ") as file:
        return [line for line in file.read().split("\0") if line]


async def test_e1_a_killed_roundhouse_comes_back_to_its_engines(place):
    model, loading = Scripted(place.folder, "one"), Scripted(place.folder, "two", "--load-gate", str(place.gate("two")))
    place.write([model, loading])
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        async with running.api.stream("two") as answer:
            await answer.until("⏳")
            await loading.until("start")
            running.kill()
        running.start()
        assert (await running.api.model("one"))["state"] == "ready"
        assert (await running.api.chat("one")).status == 200
        assert (await running.api.model("two"))["state"] == "loading"
        place.gate("two").touch()
        assert (await running.api.chat("two")).status == 200
        assert (model.starts, loading.starts) == (1, 1)


async def test_e3_without_a_new_roundhouse_the_engine_ends(place):
    model = Scripted(place.folder, "one", "--leak")
    place.write([model], scheduling={"orphan_grace": "500ms"})
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        engine, child = Watched(model.pid), Watched(model.notes("leaked")[0]["child"])
        running.kill()
        assert engine.gone(30)
        assert child.gone(30)
        engine.close()
        child.close()


@pytest.mark.parametrize("change", ["settings", "removed", "harmless"])
async def test_e1_an_engine_under_other_settings_is_ended(place, change):
    model, other = Scripted(place.folder, "one"), Scripted(place.folder, "other")
    place.write([model, other])
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        engine = Watched(model.pid)
        running.kill()
        if change == "settings":
            model.config["env"] = {"NEW": "1"}
        elif change == "harmless":
            model.config["ttl"] = "1h"
        place.write([other] if change == "removed" else [model, other])
        running.start()
        assert engine.gone() is (change != "harmless")
        engine.close()
        if change != "removed":
            assert (await running.api.chat("one")).status == 200
            assert model.starts == (1 if change == "harmless" else 2)


async def test_e5_engines_are_left_where_that_is_configured(place):
    model = Scripted(place.folder, "one")
    place.write([model], shutdown={"engines": "leave"})
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        assert running.end() == 0
        os.kill(model.pid, 0)
        running.start()
        assert (await running.api.chat("one")).status == 200
        assert model.starts == 1
        place.write([model])
        running.kill()
        running.start()  # so that it ends its engine at the end of the test


async def test_e2_a_stop_command_is_run_once_before_the_processes_are_ended(place):
    said = place.folder / "said"
    code = f"import os,sys; open({str(said)!r}, 'a').write(' '.join(sys.argv[1:]) + '|')"
    line = f'{sys.executable} -c "{code}" stop ${{ID}} ${{PORT}}'
    one = Scripted(place.folder, "one", preload=True, stop_command=line)
    place.write([one])
    with Running(place) as running:
        engine = Watched(one.pid)
        port = (await running.api.get("/health")).json()["backends"]["openai"]["url"].rpartition(":")[2]
        await running.api.post("/api/v1/models/one/unload", {})
        assert engine.gone()
        engine.close()
        assert said.read_text() == f"stop one {port}|"


async def test_e2_a_stop_command_that_fails_is_told_and_the_processes_end_all_the_same(place):
    one = Scripted(place.folder, "one", preload=True, stop_command=f"{sys.executable} -c 'raise SystemExit(7)'")
    place.write([one])
    with Running(place) as running:
        engine = Watched(one.pid)
        assert running.end() == 0
        assert engine.gone()
        engine.close()
        assert "exit code 7" in running.log()
