"""The double says what the real server said: each captured exchange is held with it again."""

from __future__ import annotations

import json
import re

import pytest

from tests.engines.tabbyapi.doubles import Running, running
from tests.engines.tabbyapi.samples import CAPTURES, capture
from tests.support.tabby_checkout import ADMIN, API
from tests.support.talker import Talker

MODELS = {
    "Fake-8B-exl3-4.0bpw": {},
    "Fake-70B-exl3-3.0bpw": {"modules": 20},
    "Old-exl2-4.0bpw": {"method": "exl2"},
    "OOM-exl3": {"modules": 20, "oom_after": 9},
    "LateGen-exl3": {"modules": 4},
    "Vision-exl3": {"vision": True, "modules": 6},
    "TabbyCfg-exl3": {"modules": 4},
    "Draft-1B-exl3": {},
}
KEYS = {"10-permission-api.txt": API, "11-load-apikey.txt": API}
LOADED = {"31-model-loaded.txt", "33-load-same.txt", "57-unload.txt"}


def replayed(one: Running, name: str) -> tuple[int, bytes]:
    """The answer to the request that a capture begins with."""
    head = [line[4:] for line in (CAPTURES / name).read_text().splitlines() if line.startswith("### ")]
    method, path = head[0].split()
    body = next((line.removeprefix("body: ") for line in head if line.startswith("body: ")), "")
    reply = Talker(one.port, KEYS.get(name, ADMIN)).ask(method, path, body.encode())
    return reply.status, reply.body


def told(body: bytes) -> list[object]:
    """What an answer says, less what is different every time: times, folders, templates."""
    text = re.sub(r"/[\w./-]*/(?=[\w.-]+)", "", body.decode())
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.strip()]
    found = [json.loads(line) for line in lines]
    for value in found:
        if isinstance(value, dict):
            value.pop("created", None)
            (value.get("parameters") or {}).pop("prompt_template_content", None)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "01-health.txt", "08-model-none.txt", "09-permission-admin.txt", "10-permission-api.txt", "11-load-apikey.txt",
        "14-unload-none.txt", "15-load-missing.txt", "17-load-emptydir.txt", "18-load-exl2.txt", "30-load-8b.txt",
        "31-model-loaded.txt", "33-load-same.txt", "57-unload.txt", "58-unload-again.txt", "60-load-70b.txt",
        "77-load-lategen.txt", "78-load-oom.txt", "86-load-draft2.txt", "87-load-vision.txt",
        "88-load-draft-missing.txt", "89-load-tabbycfg.txt", "90-load-badcache.txt", "91-load-badmode.txt",
    ],
)  # fmt: skip
def test_it_answers_as_the_real_server_did(tmp_path, name):
    with running(tmp_path, models=MODELS, laid=lambda checkout: (checkout / "models/Empty-dir").mkdir()) as one:
        if name in LOADED:
            replayed(one, "30-load-8b.txt")
        status, body = replayed(one, name)
        real_status, real_body = capture(name)
        assert (status, told(body)) == (real_status, told(real_body))


def test_a_second_load_of_the_same_waits_for_the_first_and_counts_nothing(tmp_path):
    with running(tmp_path, models=MODELS) as one:
        first, second = replayed(one, "60-load-70b.txt"), replayed(one, "66-second-load-same.txt")
        assert len(told(first[1])) == 21
        assert told(second[1]) == told(capture("66-second-load-same.txt")[1])


def test_a_client_that_leaves_has_seen_the_first_modules(tmp_path):
    with running(tmp_path, models=MODELS) as one:
        seen = told(capture("67-load-disconnect.txt")[1])
        assert told(replayed(one, "60-load-70b.txt")[1])[: len(seen)] == seen
