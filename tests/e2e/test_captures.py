"""Copies of bodies, with the real program: off by default, for admins, bounded, secrets hidden (spec E6, G5)."""

from __future__ import annotations

import asyncio
import json

import pytest

from roundhouse.api.auth import hash_key
from tests.cli.commands import run
from tests.support.house import Running, Scripted


async def capture(api, request, headers=None):
    async with asyncio.timeout(30):
        while (found := await api.get(f"/api/v1/requests/{request}/capture", headers=headers)).status == 404:
            await asyncio.sleep(0.01)
    return found


async def test_nothing_is_kept_unless_it_is_asked_for(place):
    place.write([Scripted(place.folder, "one")])
    with Running(place) as running:
        assert (await running.api.chat("one", headers={"x-request-id": "r1"})).status == 200
        answer = await running.api.get("/api/v1/requests/r1/capture")
        assert answer.status == 404
        assert "captures.store" in answer.json()["error"]["message"]
        assert not (place.state / "captures.db").exists()


@pytest.mark.parametrize("stream", [True, False])
async def test_e6_what_was_asked_and_answered_is_shown_to_admins(place, stream):
    keys = [
        {"name": "root", "hash": hash_key("sk-root-key"), "admin": True},
        {"name": "ann", "hash": hash_key("sk-ann")},
    ]
    place.write([Scripted(place.folder, "one")], captures={"store": "all", "body": "2kB"}, keys=keys)
    root, ann = {"authorization": "Bearer sk-root-key"}, {"authorization": "Bearer sk-ann"}
    with Running(place) as running:
        api = running.api
        said = {"messages": [{"role": "user", "content": "my password=hunter22 " + "long " * 1000}]}
        sent = await api.chat("one", stream=stream, headers={**ann, "x-request-id": "r1"}, **said)
        assert sent.status == 200
        found = (await capture(api, "r1", root)).json()
        assert found["request"].startswith('{"')
        assert "hunter22" not in found["request"]
        assert len(found["request"]) <= 2000 < found["request_bytes"]
        assert (found["answer_bytes"], found["answer"]) == (len(sent.body), sent.body.decode()[:2000])
        assert (found["key"], found["model"], found["status"]) == ("ann", "one", 200)
        for path in ("/api/v1/captures", "/api/v1/requests/r1/capture"):
            assert (await api.get(path, headers=ann)).status == 403
            assert (await api.get(path)).status == 401
        url = {"ROUNDHOUSE_URL": f"http://127.0.0.1:{place.port}", "ROUNDHOUSE_API_KEY": "sk-root-key"}
        assert "r1" in run("captures", "list", **url).out
        assert json.loads(run("captures", "list", "--json", **url).out)[0]["id"] == "r1"
        shown = run("captures", "show", "r1", **url)
        assert f"--- request, {found['request_bytes']} bytes (cut)" in shown.out
        assert json.loads(run("captures", "show", "r1", "--json", **url).out) == found
        assert run("captures", "show", "r9", **url).code == 4
