"""Streams to test with: captures of real engines, made-up ones, and a strict reader of what the client got."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from roundhouse.dialects.meter import Meter
from roundhouse.dialects.relay import ChatRelay
from roundhouse.dialects.status import Channel, Frames

CAPTURES = Path(__file__).parent.parent / "captures"
ENGINES = ("llamacpp", "sglang", "vllm", "tabbyapi")
STREAMS = sorted(str(path.relative_to(CAPTURES)) for engine in ENGINES for path in (CAPTURES / engine).glob("*.sse"))
WHOLE_STREAMS = [name for name in STREAMS if name not in {"tabbyapi/error_stream.sse", "tabbyapi/cut_stream.sse"}]
CHAT_STREAMS = [name for name in WHOLE_STREAMS if "completions" not in name]
CHANNEL_SETS = [frozenset(), {Channel.EVENT}, {Channel.CONTENT}, {Channel.EVENT, Channel.CONTENT}, {Channel.COMMENT}]


def capture(name):
    return (CAPTURES / name).read_bytes()


def http(name):
    """Status and body of a captured answer."""
    head, _, body = capture(name).replace(b"\r\n", b"\n").partition(b"\n\n")
    return int(head.split()[1]), body


def relay(channels=(), *, model="asked", **options: Any):
    meter = Meter(0.0, options.pop("queue_s", 0.0), options.pop("load_s", 0.0))
    return ChatRelay(Frames("chatcmpl-ours", 7, model), meter, frozenset(channels), **options)


def through(reads, channels=(), *, now=None, **options: Any):
    """What a client gets for these reads and a normal end; `now` is the time of each read (default 1, 2, …)."""
    one = relay(channels, **options)
    times = itertools.repeat(now) if now is not None else itertools.count(1.0)
    out = b"".join(one.feed(read, time) for read, time in zip(reads, times, strict=False))
    return out + one.end(now if now is not None else float(len(reads)))


def chunk(delta=None, finish=None, index=0, model="served", **fields: Any):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 3,
        "model": model,
        "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}],
        **fields,
    }


def text(content, **fields: Any):
    return chunk({"content": content}, **fields)


def usage(tokens, prompt=3):
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def usage_chunk(tokens, **fields: Any):
    return {**chunk(), "choices": [], "usage": usage(tokens), **fields}


def wire(*items: Any, ascii_only=False, end="\n\n"):
    """Events as an engine sends them; a str goes out as it is (`[DONE]`)."""
    lines = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=ascii_only) for item in items]
    return "".join(f"data: {line}{end}" for line in lines).encode()


def read(client):
    """The client's events as parsed by the strict rule of OpenAI streams: one data line of JSON each, or [DONE]."""
    found = []
    for event in client.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        for line in event.split(b"\n"):
            if not line or line.startswith(b":"):
                continue
            assert line.startswith(b"data:"), line
            data = line[5:].strip()
            found.append("[DONE]" if data == b"[DONE]" else json.loads(data))
    return found


def chunks(client):
    return [item for item in read(client) if item != "[DONE]"]


def answer(items, key="content", index=0):
    """All the text of one choice."""
    parts = []
    for item in items:
        for choice in item.get("choices", []):
            if choice["index"] == index:
                parts.append(choice.get("text") or choice.get("delta", {}).get(key) or "")
    return "".join(parts)


def usages(items):
    return [item["usage"] for item in items if item.get("usage")]


@st.composite
def cuts(draw, data):
    """The same bytes in reads that fall anywhere."""
    marks = draw(st.lists(st.integers(0, len(data)), max_size=30))
    edges = [0, *sorted(marks), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]
