"""Engines in systemd units through the whole product: made for them, found again, ended (C3, E1, E2)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.house import Running, Scripted
from tests.support.processes import Watched

pytestmark = pytest.mark.inside_lab


def units() -> list[str]:
    """Transient units of engines that are loaded."""
    argv = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "roundhouse-*"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    return [line.split()[0] for line in said.splitlines()]


def shown(unit: str, name: str) -> str:
    argv = ["systemctl", "show", "--value", "-p", name, unit]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


async def test_c3_a_model_in_a_unit_made_for_it(place):
    one = Scripted(place.folder, "one", "--leak", launcher="systemd", env={"SECRET": "hush-hush"})
    place.write([one], devices={"ram": "1GiB"})
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        [unit] = units()
        assert "one" in shown(unit, "Description")
        assert shown(unit, "MainPID") == str(one.pid)
        assert (shown(unit, "KillMode"), shown(unit, "Restart")) == ("control-group", "no")
        assert shown(unit, "MemoryMax") == str(1 << 30)
        assert "hush" not in subprocess.run(["systemctl", "show", unit], capture_output=True, text=True).stdout  # noqa: PLW1510 -- its text is what counts
        async with running.api.open("GET", "/api/v1/models/one/log?follow=1") as log:
            await log.until("loading the weights")  # the journal is a moment behind
        child = Watched(one.notes("leaked")[0]["child"])
        await running.api.post("/api/v1/models/one/unload")
        assert child.gone()
        child.close()
        assert units() == []
        left = place.folder / "roundhouse/units"
        assert [path for path in left.rglob("*") if path.is_file()] == []


async def test_e1_a_killed_roundhouse_finds_its_units_again(place):
    one, two = Scripted(place.folder, "one", launcher="systemd"), Scripted(place.folder, "two", launcher="systemd")
    place.write([one, two])
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        assert (await running.api.chat("two")).status == 200
        engine = Watched(two.pid)
        running.kill()
        two.config["args"] = ["--never"]
        place.write([one, two])
        running.start()
        assert (await running.api.model("one"))["state"] == "ready"
        assert one.starts == 1
        assert engine.gone()
        engine.close()
        assert len(units()) == 1
        assert running.end() == 0
        assert units() == []


async def test_a9_an_engine_that_dies_in_its_unit(place):
    one = Scripted(place.folder, "one", launcher="systemd")
    place.write([one])
    with Running(place) as running:
        events = await running.api.events("one", fake={"die_after": 2})
        assert events.errors
        assert events.done
        assert (await running.api.chat("one")).status == 200
        assert one.starts == 2


async def test_a_unit_that_can_t_be_started_says_why(place):
    program = place.folder / "engine"
    program.write_text("#!/bin/sh\n")
    model = {"engine": "openai", "command": f"{program} ${{PORT}}", "memory": "1MiB", "launcher": "systemd"}
    place.write({"bad": model, "named": {"engine": "sglang", "script": str(program), "service": "nowhere.service"}})
    with Running(place) as running:
        refused = await running.api.chat("bad")
        assert refused.status == 503
        assert "chmod +x" in refused.error()["message"]
        refused = await running.api.chat("named")
        assert refused.status == 503
        assert "not executable" in refused.error()["message"]
        Path(program).chmod(0o755)
        refused = await running.api.chat("named")
        assert refused.status == 503
        assert "nowhere.service" in refused.error()["message"]
    assert units() == []
