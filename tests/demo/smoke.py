"""The demo as a newcomer meets it: started with its command, asked over HTTP, ended with Ctrl-C. Needs no test packages.

Each chat model answers one streamed chat (the second one makes the first leave), the embedding model stays; status,
readiness and performance lines are seen; in the end no process of it is left.
usage: smoke.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from roundhouse.demo.run import default_cache, state_folder

MARK = f"ROUNDHOUSE_DEMO_SMOKE={uuid.uuid4()}"  # in the environment of the demo and of all that it starts
READY_WITHIN = 900.0  # seconds; the first time 0.5 GB are fetched
CHATS = {"smollm2-135m": "Write one sentence about trains.", "gemma3-270m": "What is the capital of France?"}
SEEN = ("⏳ Loading model...", "✓ Model ready!", "[Performance: ")


def main() -> None:
    address = f"127.0.0.1:{free_port()}"
    demo = start(address)
    try:
        wait_until_served(demo, address)
        talk(f"http://{address}")
        engines = len(marked())
        assert engines > 1, "no engine carries the mark, so its end could not be seen"
    finally:
        demo.send_signal(signal.SIGINT)
        code = demo.wait(60)
    assert code in {0, 130, -signal.SIGINT}, f"the demo ended with {code}"
    wait_until_gone()
    shutil.rmtree(state_folder(default_cache(os.environ), address))
    print("demo-smoke: passed")


def start(address: str) -> subprocess.Popen[bytes]:
    name, value = MARK.split("=")
    command = [sys.executable, "-m", "roundhouse", "demo", "--listen", address]
    return subprocess.Popen(command, env={**os.environ, name: value})


def wait_until_served(demo: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        assert demo.poll() is None, f"the demo ended with {demo.returncode} before it served"
        try:
            with urllib.request.urlopen(f"http://{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the demo did not serve within {READY_WITHIN:.0f} s")


def talk(url: str) -> None:
    models = [model["id"] for model in json.loads(get(f"{url}/v1/models"))["data"]]
    assert models == [*CHATS, "minilm-l6"], models
    for model, question in CHATS.items():
        said = chat(url, model, question)
        print(f"--- {model}\n{said.strip()}")
        for piece in SEEN:
            assert piece in said, f"{model}: no {piece!r} in {said!r}"
    answer = json.loads(post(f"{url}/v1/embeddings", {"model": "minilm-l6", "input": "A cat sits on the mat."}))
    vector = answer["data"][0]["embedding"]
    assert len(vector) == 384, len(vector)
    states = {model["id"]: model["status"]["value"] for model in json.loads(get(f"{url}/v1/models"))["data"]}
    assert states["gemma3-270m"] == states["minilm-l6"] == "loaded", states
    assert states["smollm2-135m"] == "unloaded", f"both chat models fit, so there was no switch: {states}"


def chat(url: str, model: str, question: str) -> str:
    """The text of a streamed chat, as a terminal sees it."""
    messages = [{"role": "user", "content": question}]
    stream = post(f"{url}/v1/chat/completions", {"model": model, "stream": True, "messages": messages}).decode()
    assert stream.rstrip().endswith("data: [DONE]"), stream[-300:]
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    assert not [event for event in events if "error" in event], events
    choices = [choice for event in events for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def get(url: str) -> bytes:
    return ask(urllib.request.Request(url))


def post(url: str, body: dict[str, Any]) -> bytes:
    headers = {"content-type": "application/json", "x-roundhouse-status": "content"}
    return ask(urllib.request.Request(url, json.dumps(body).encode(), headers))


def ask(request: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request, timeout=180) as reply:
        body: bytes = reply.read()
        return body


def wait_until_gone() -> None:
    deadline = time.monotonic() + 10
    while left := marked():
        assert time.monotonic() < deadline, f"processes of the demo are left: {left}"
        time.sleep(0.1)


def marked() -> dict[int, str]:
    """Living processes that carry the mark, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
