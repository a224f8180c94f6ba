"""The doubles beside what the real engines were recorded saying: same statuses, headers, keys and log patterns."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from pathlib import Path

import pytest

from tests.real.subject import alone, double
from tests.support.fake_python import MODULES, Doubled, make_python, write_script
from tests.support.wire import Api, Events, chat

CAPTURES = Path(__file__).parent.parent / "captures"
STREAMS = {
    "chat_stream": {},
    "chat_stream_usage": {"stream_options": {"include_usage": True}},
    "chat_stream_contusage": {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
}
TOO_LONG = {"max_tokens": 999999}
# Which the scripted parts of a double's answer differ in: their text, and whether it thinks.
SAID = {"content", "reasoning", "reasoning_content"}


@pytest.fixture(params=["sglang", "vllm"])
def engine(request):
    return request.param


@pytest.fixture
async def api(engine, folder, install):
    parser = {"sglang": (), "vllm": ("--reasoning-parser", "deepseek_r1")}[engine]  # as when they were recorded
    subject = double(folder, engine)
    async with alone(subject, install, *parser, token_delay=0) as (_, port):
        yield await subject.ready(port)


def recorded(engine, name):
    """Status, headers and body of a recorded answer; of a file without a head, the body alone."""
    text = (CAPTURES / engine / name).read_text()
    if not name.endswith(".http"):
        return 200, {}, text
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines()
    return int(first.split()[1]), {line.split(": ")[0].lower() for line in lines}, body


def shape(value):
    """Keys all the way down; what was said does not count, only that something was."""
    if isinstance(value, dict):
        return {"said" if key in SAID and value[key] is not None else key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


def shapes(chunks):
    """Shapes of a stream's chunks in their order, repetitions left out."""
    found = []
    for one in map(shape, chunks):
        if one not in found:
            found.append(one)
    return found


@pytest.mark.parametrize("name", STREAMS)
async def test_streams_have_the_recorded_shape(api, engine, name):
    body = recorded(engine, f"{name}.sse")[2]
    async with api.open(
        "POST", "/v1/chat/completions", chat("tiny", stream=True, max_tokens=6, **STREAMS[name])
    ) as answer:
        events = await answer.events()
    assert shapes(events.chunks) == shapes(Events(body).chunks)
    assert events.done
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert events.chunks[0]["id"].startswith("chatcmpl-") == (engine == "vllm")


async def test_text_streams_have_the_recorded_shape(api, engine):
    body = recorded(engine, "completions_stream.sse")[2]
    asked = {
        "model": "tiny",
        "prompt": "hi",
        "max_tokens": 6,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with api.open("POST", "/v1/completions", asked) as answer:
        events = await answer.events()
    assert shapes(events.chunks) == shapes(Events(body).chunks)


async def test_whole_answers_have_the_recorded_shape(api, engine):
    reply = await api.chat("tiny", max_tokens=6)
    theirs = json.loads(recorded(engine, "chat_nostream.json")[2])
    assert sorted(reply.json()) == sorted(theirs)
    assert sorted(reply.json()["choices"][0]) == sorted(theirs["choices"][0])
    assert sorted(reply.json()["choices"][0]["message"]) == sorted(theirs["choices"][0]["message"])
    assert sorted(reply.json()["usage"]) == sorted(theirs["usage"])


@pytest.mark.parametrize(
    ("name", "path", "asked"),
    [
        ("err_toolong.http", "/v1/chat/completions", chat("tiny", **TOO_LONG)),
        ("err_embeddings.http", "/v1/embeddings", {"model": "tiny", "input": "x"}),
        ("err_badmodel.http", "/v1/chat/completions", chat("nope", max_tokens=4)),
    ],
)
async def test_refusals_are_the_recorded_ones(api, engine, name, path, asked):
    reply = await api.post(path, asked)
    if (engine, name) == ("sglang", "err_badmodel.http"):  # any name will do
        assert (reply.status, reply.json()["model"]) == (200, "nope")
        return
    status, headers, body = recorded(engine, name)
    assert (reply.status, reply.json()) == (status, json.loads(body))
    assert set(reply.headers) == headers


@pytest.mark.parametrize("name", ["v1_models", "model_info", "server_info", "v1_loads", "version"])
async def test_what_they_say_of_themselves(api, engine, name):
    file = CAPTURES / engine / "served" / f"{name}.json"
    reply = await api.get("/" + name.replace("v1_", "v1/"))
    assert reply.status == (200 if file.exists() else 404)
    if file.exists():
        assert sorted(reply.json()) == sorted(json.loads(file.read_text()))
    else:
        assert reply.json() == {"detail": "Not Found"}


async def test_prompts_that_are_too_long(api, engine):
    reply = await api.chat("tiny", messages=[{"role": "user", "content": "hello " * 2000}])
    assert reply.status == 400
    assert "context length" in json.dumps(reply.json())
    assert ("error" in reply.json()) == (engine == "vllm")


async def test_sglang_aborts_on_request(folder, install):
    subject = double(folder, "sglang")
    async with alone(subject, install) as (_, port):
        api = await subject.ready(port)
        async with subject.streaming(api) as answer:
            assert (await api.post("/abort_request", {"abort_all": True})).status == 200
            events = await answer.events()
        assert events.finishes == ["abort"]
        assert events.done


async def test_sglang_answers_503_while_it_warms_up(folder, install):
    subject, gate = double(folder, "sglang"), folder / "gate"
    async with alone(subject, install, gates={"warmup": gate}) as (_, port):
        api = Api(port)
        while True:
            try:
                assert (await api.get("/ready")).status == 503
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        assert (await api.get("/health")).status == 503
        assert (await api.get("/v1/models")).status == 200
        gate.touch()
        await subject.ready(port)


async def test_vllm_sleeps_and_hangs_those_who_ask(folder, install):
    subject = double(folder, "vllm")
    async with alone(subject, install) as (_, port):
        api = await subject.ready(port)
        assert (await api.post("/sleep?level=1")).json() == {"status": "sleeping", "level": 1}
        asking = asyncio.get_running_loop().create_task(api.chat("tiny", max_tokens=1))
        assert (await api.get("/health")).status == 200
        assert (await api.post("/wake_up?tags=weights")).json() == {"status": "sleeping", "tags": ["weights"]}
        assert (await api.get("/is_sleeping")).json() == {"is_sleeping": True}
        assert not asking.done()
        assert (await api.post("/wake_up?tags=kv_cache")).json() == {"status": "awake", "tags": ["kv_cache"]}
        assert (await asking).status == 200


# --- logs and endings ---

READY = rb"fired up|startup complete\.\n$"
LINES = {
    "sglang": [
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] server_args=", r"\] Load weight begin\. avail mem=[\d.]+ GB",
        r"Multi-thread loading shards: +\d+% Completed \| \d+/13 \[", r"\] Load weight end\. elapsed=",
        r"\] KV Cache is allocated\. dtype:", r"\] Memory pool end\. avail mem=", r"Capturing batches \(bs=\d+ avail_mem=[\d.]+ GB\): +\d+%\|",
        r"\] max_total_num_tokens=\d+", r"\] INFO:     Uvicorn running on http://", r"\] The server is fired up and ready to roll!",
    ],
    "vllm": [
        r"\(EngineCore pid=\d+\) INFO \d\d-\d\d \d\d:\d\d:\d\d \[core\.py:\d+\] Initializing a V1 LLM engine", r"\] Starting to load model ",
        r"Loading safetensors checkpoint shards: +\d+% Completed \| \d+/13 \[", r"\] Loading weights took ", r"\] GPU KV cache size: ",
        r"Capturing CUDA graphs \(.*\): +\d+%\|", r"\] init engine ", r"\] Starting vLLM server on http://", r"Application startup complete\.",
    ],
}  # fmt: skip


async def outcome(engine, folder, install, **behaviour):
    """Exit code and output of one that ends by itself, or is told to when it is ready."""
    log = folder / "log"
    async with alone(double(folder, engine), install, log=log, **behaviour) as (process, _), asyncio.timeout(30):
        while process.returncode is None and not re.search(READY, log.read_bytes()):
            await asyncio.sleep(0.02)
        if process.returncode is None:
            process.terminate()
        return await process.wait(), log.read_bytes().decode()


async def test_the_log_goes_as_recorded(engine, folder, install):
    code, said = await outcome(engine, folder, install)
    assert code == 0
    at = 0
    for line in LINES[engine]:
        found = re.compile(line).search(said, at)
        assert found, f"{line} is not behind {said[:at][-200:]}"
        at = found.end()
    if engine == "sglang":
        assert re.search(r" 0% Completed[^\n]*\r[^\n]*\r[^\n]*100% Completed", said)  # one line, to be split at \r


@pytest.mark.parametrize(
    ("behaviour", "words", "codes"),
    [
        (
            {"die_at": "weights", "memory_out": True},
            {"sglang": "OutOfMemoryError", "vllm": "Free memory on device"},
            (-9, 1),
        ),
        ({"die_at": "import"}, {"sglang": "Scheduler hit an exception", "vllm": "EngineCore failed to start"}, (-9, 1)),
        ({"occupied": True}, {"sglang": "address already in use", "vllm": "Address already in use"}, (1, 1)),
    ],
    ids=["memory", "exception", "port"],
)
async def test_failed_loads(engine, folder, install, behaviour, words, codes):
    code, said = await outcome(engine, folder, install, **behaviour)
    assert words[engine] in said
    assert code == codes[engine == "vllm"]


async def test_a_taken_port_is_found_out(engine, folder, install):
    subject = double(folder, engine)
    async with alone(subject, install) as (process, port):
        await subject.ready(port)
        other = await asyncio.create_subprocess_exec(*subject.argv(port), stderr=asyncio.subprocess.PIPE)
        _, said = await other.communicate()
        assert other.returncode == 1
        assert b"ddress already in use" in said
        assert process.returncode is None


async def test_the_interpreter_answers_as_python_and_runs_scripts(engine, folder):
    python = make_python(folder / "environment", engine, version="9.9")
    words = f"import {engine}, importlib.metadata as m; print({engine}.__version__, m.version('{engine}'))"
    told = await asyncio.create_subprocess_exec(python, "-c", words, stdout=asyncio.subprocess.PIPE)
    assert (await told.communicate())[0] == b"9.9 9.9\n"
    script = write_script(folder / "start_model.sh", python, engine, "--help")
    told = await asyncio.create_subprocess_exec(script, stdout=asyncio.subprocess.PIPE)
    assert b"\n  --served-model-name" in (await told.communicate())[0]
    assert MODULES[engine] in script.read_text()


async def test_it_writes_down_what_happened(engine, folder, install):
    subject = double(folder, engine)
    model = Doubled(folder, "tiny", engine, {})
    async with alone(subject, install, record=model.record) as (process, port):
        api = await subject.ready(port)
        async with api.stream("tiny", fake={"tokens": 3, "gate": "never", "gate_after": 2}) as answer:
            await answer.until("second")
            answer._link.leave()
            await model.until("left")
        await api.chat("tiny", fake={"tokens": ["one", "two"]})
        await model.until("answered")
        process.terminate()
        await process.wait()
    whats = [note["what"] for note in model.notes() if note["what"] not in {"children", "worker"}]
    assert whats == ["start", "ready", "request", "left", "request", "answered", "stopping", "stopped"]
    assert model.last()["json"]["fake"] == {"tokens": ["one", "two"]}
    start = model.notes("start")[0]
    assert (start["port"], start["env"]["SPT_NOENV"]) == (port, "1")
    assert "--served-model-name" in start["argv"]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("told", [{"die_after": 2}, {"hang": True}])
async def test_faults_in_an_answer(engine, folder, install, told):
    subject = double(folder, engine)
    async with alone(subject, install) as (process, port):
        api = await subject.ready(port)
        if "hang" in told:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3), api.stream("tiny", fake=told):
                    pass
            return
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await api.events("tiny", fake=told)
        assert await process.wait() == -9
