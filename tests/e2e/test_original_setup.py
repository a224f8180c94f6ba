"""The original's own set-up, unchanged, on a real systemd: its 8 models, three services, ports and start scripts (C7).

Its tables are imported, the service installed under its old name, and every model asked in turn over port 8002. Engines
are doubles behind the very start scripts; the ports are the original's, on a loopback of the lab's own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import fake_engine, import_sources, tabby_checkout
from tests.support.fake_python import make_python
from tests.support.wire import Api

pytestmark = [pytest.mark.inside_lab(own_network=True), pytest.mark.timeout(240)]

EXL2 = "79126f9"
SGLANG = [
    "mistral-large-2411-awq",
    "llama-3.3-70b-awq",
    "deepseek-r1-distill-70b-awq",
    "magnum-v4-123b-awq",
    "kat-dev-awq-8bit",
]
TABBY = "monstral-123b-exl2-4bpw"
LLAMA = ["behemoth-r1-123b-iq4nl", "magnum-diamond-123b-iq4nl"]
MODELS = [*SGLANG, TABBY, *LLAMA]
UNITS = {"sglang": SGLANG[0], "tabbyapi": TABBY, "llamacpp": LLAMA[0]}
READY = r"✓ Model ready! \(\d+s\)"
LOADING = r"⏳ Loading model... \d+s / \d+s"
PERFORMANCE = r"\[Performance: \d+\.\d tok/s \| \d+ tokens in \d+\.\d\d+s\]"
WRITTEN = [Path("/etc/systemd/system"), Path("/run/systemd/system"), Path("/etc/polkit-1/rules.d")]

UNIT = """\
[Unit]
Description={name} of the original
[Service]
WorkingDirectory={folder}
ExecStart={start}
Restart=no
"""


def lay_out(folder: Path) -> Path:
    """The original's home with engines in it; returns its router's script."""
    router = import_sources.original(folder)
    scripts = folder / "sglang"
    for script in scripts.glob("*.sh"):
        script.chmod(0o755)
        text = script.read_text().replace("--port 8086", "--port 8085")  # as its documentation has it
        script.write_text(text)
    environment = make_python(scripts / "sglang-env", "sglang", record=str(folder / "sglang.jsonl"), load_seconds=0.8)
    (scripts / "sglang-env/bin/activate").write_text(f'PATH={environment.parent}:"$PATH"\n')
    server = folder / "llama.cpp/build/bin/llama-server"
    server.parent.mkdir(parents=True)
    words = f"{sys.executable} -S {fake_engine.__file__}"
    server.write_text(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in -m) model=$2;; --port) port=$2;; esac; shift; done\n"
        f'echo "{{\\"file\\": \\"$model\\"}}" >>{folder}/llama.jsonl; sleep 0.8\n'
        f'exec {words} --port "$port" --record {folder}/engine.jsonl\n'
    )
    server.chmod(0o755)
    old = (folder / "tabbyAPI/config.yml").read_text()
    shutil.rmtree(folder / "tabbyAPI")
    tabby_checkout.make_checkout(folder / "tabbyAPI", EXL2, exllamav2=True)
    # Its router wrote the model to be loaded at the start into the file; a service that runs as it is loads it.
    (folder / "tabbyAPI/config.yml").write_text(re.sub(r"(?m)^  model_name:.*$", "  model_name:", old))
    tabby_checkout.make_model(folder / "models/exl2", "Monstral-123B-v2-exl2-4.0bpw", "exl2", delay=0.1)
    return router


def write_units(folder: Path) -> None:
    starts = {
        "sglang": folder / "sglang/start_sglang_mistral_blackwell.sh",
        "tabbyapi": f"{folder}/tabbyAPI/venv/bin/python main.py",
        "llamacpp": folder / "sglang/start_llamacpp_behemoth_blackwell.sh",
    }
    for name, start in starts.items():
        where = folder / "tabbyAPI" if name == "tabbyapi" else folder
        text = UNIT.format(name=name, folder=where, start=start)
        Path(f"/etc/systemd/system/{name}.service").write_text(text)
    systemctl("daemon-reload")


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", "--no-pager", *words], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def roundhouse(*words: str | Path) -> str:
    argv = [sys.executable, "-m", "roundhouse", *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written() -> dict[str, str]:
    """Every file where units and rules are."""
    return {
        str(file): file.read_text() for root in WRITTEN if root.exists() for file in root.rglob("*") if file.is_file()
    }


def engines() -> list[str]:
    """Command lines of engine processes that live in this lab."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue
            if re.search(r"launch_server|sglang::|tabbyAPI|main\.py|fake_engine|llama-server", line):
                found.append(line)
    return found


def journal(unit: str) -> str:
    return subprocess.run(
        ["journalctl", "--no-pager", "-n", "60", "-u", unit], capture_output=True, text=True, check=False
    ).stdout


@pytest.fixture(scope="module")
def box():
    folder = Path(tempfile.mkdtemp(prefix="rh-original-", dir="/tmp"))
    try:
        router = lay_out(folder)
        write_units(folder)
        before = written()
        config = folder / "roundhouse.yaml"
        roundhouse("import", router, "--output", config)
        config.write_text(config.read_text() + "devices: {ram: 1GiB}\n")
        roundhouse("install", "--name", "model-router", "--config", config, "--run-as", "root")
        yield SimpleNamespace(folder=folder, api=Api(8002), before=before, installed=written())
    finally:
        systemctl("stop", "model-router.socket", "model-router.service", *(f"{name}.service" for name in UNITS))
        shutil.rmtree(folder)


async def ask(box, model: str):
    """As a terminal does, which gets status and performance as text (B2)."""
    events = await box.api.events(model, headers={"User-Agent": "curl/8.5"})
    assert events.done, events.text
    assert not events.errors, f"{events.errors}\n{journal('model-router')}\n{engines()}"
    return events


def served_by(box, model: str) -> str:
    """What the newest engine of a model's kind was started for."""
    if model in LLAMA:
        return str(json.loads((box.folder / "llama.jsonl").read_text().splitlines()[-1])["file"])
    if model == TABBY:
        return str([n for n in tabby_checkout.notes(box.folder / "tabbyAPI") if n["what"] == "loaded"][-1])
    lines = (box.folder / "sglang.jsonl").read_text().splitlines()
    return str([n for n in map(json.loads, lines) if n["what"] == "start"][-1])


FILES = {
    "mistral-large-2411-awq": "Mistral-Large-Instruct-2411-AWQ",
    "llama-3.3-70b-awq": "Llama-3.3-70B-Instruct-AWQ",
    "deepseek-r1-distill-70b-awq": "DeepSeek-R1-Distill-Llama-70B-AWQ",
    "magnum-v4-123b-awq": "agnum-v4-123b",
    "kat-dev-awq-8bit": "KAT-Dev",
    TABBY: "Monstral-123B-v2-exl2-4.0bpw",
    "behemoth-r1-123b-iq4nl": "Behemoth-R1-123B-IQ4_NL.gguf",
    "magnum-diamond-123b-iq4nl": "Magnum-Diamond-123B-IQ4_NL.gguf",
}


async def test_c7_the_eight_models_are_listed(box):
    listed = (await box.api.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == MODELS


@pytest.mark.parametrize("model", MODELS)
async def test_c7_every_model_answers_with_status_and_performance_in_the_originals_words(box, model):
    events = await ask(box, model)
    text = events.text_of_answer
    assert re.search(LOADING, text), text
    assert re.search(READY, text), text
    assert re.search(PERFORMANCE, text), text
    assert FILES[model] in served_by(box, model)
    assert (await box.api.model(model))["state"] == "ready"


async def test_d1_one_script_at_a_time_has_the_device(box):
    await ask(box, SGLANG[0])
    await ask(box, LLAMA[0])
    states = {name: (await box.api.model(name))["state"] for name in (SGLANG[0], LLAMA[0])}
    assert states == {SGLANG[0]: "unloaded", LLAMA[0]: "ready"}
    assert systemctl("is-active", "sglang.service") == "inactive"


async def test_systemctl_status_shows_what_roundhouse_did(box):
    await ask(box, SGLANG[1])
    told = systemctl("status", "sglang.service")
    assert "Active: active (running)" in told
    assert "50-roundhouse.conf" in told
    assert "start_sglang_llama33_blackwell.sh" in journal("sglang.service") or "launch_server" in told
    assert "fired up" in journal("sglang.service")
    assert "Status: " in systemctl("status", "model-router.service")


async def test_e5_a_restart_loads_nothing_again(box):
    await ask(box, SGLANG[2])
    before = systemctl("show", "--value", "-p", "MainPID", "sglang.service")
    assert systemctl("restart", "model-router.service") == ""
    events = await ask(box, SGLANG[2])
    assert "Loading model" not in events.text_of_answer, journal("model-router")
    assert systemctl("show", "--value", "-p", "MainPID", "sglang.service") == before


async def test_a_run_writes_nothing_and_leaves_nothing(box):
    await ask(box, LLAMA[1])
    systemctl("stop", "model-router.service")
    assert systemctl("is-active", "model-router.service") == "inactive"
    assert [systemctl("is-active", f"{name}.service") for name in UNITS] == ["inactive"] * 3
    assert engines() == []
    assert written() == box.installed
    assert {name for name in box.installed if name not in box.before} == {
        "/etc/systemd/system/model-router.service",
        "/etc/systemd/system/model-router.socket",
    } | {name for name in box.installed if "wants" in name and name not in box.before}
    left = [str(file) for file in Path("/run/roundhouse-units").rglob("*") if file.is_file()]
    assert left == []
    assert os.listdir("/run/roundhouse") in ([], ["units"])
