"""One engine as a test runs it: how to start it, how to see that it loads or answers, what its processes are.

Real or a double, a test sees no difference but the pace.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.fake_python import MODULES, make_python
from tests.support.house import free_port
from tests.support.processes import Watched, all_of
from tests.support.wire import Api, chat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

REAL = frozenset(os.environ.get("ROUNDHOUSE_REAL_ENGINES", "").replace(",", " ").split())
ENGINES = Path(__file__).parent.parent.parent / ".cache" / "engines"
CONTEXT = 1024
FLAGS = {
    "sglang": (
        "--device", "cpu", "--attention-backend", "torch_native", "--sampling-backend", "pytorch", "--disable-overlap-schedule",
        "--mem-fraction-static", "0.3", "--max-total-tokens", "8192",
    ),
    "vllm": ("--dtype", "bfloat16", "--enforce-eager"),
}  # fmt: skip
"""What they need to run on a CPU."""
ENV = {
    "sglang": {"SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "PYTHONUNBUFFERED": "1"},
    "vllm": {
        "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    },
}  # fmt: skip
PROCESSES = {"sglang": {"sglang::schedul", "sglang::detoken"}, "vllm": {"VLLM::EngineCor", "VLLM::Worker"}}
"""Names (comm) of its children once it has loaded, but for the resource tracker."""
STARTED = {"sglang": 3, "vllm": 2}
"""How many children it has when they import what they need: the resource tracker too, vLLM's worker not yet."""
LONG, SHORT = 900, 60
"""Tokens of an answer that outlives its test, and of one whose end is waited for."""


@dataclass(frozen=True)
class Subject:
    engine: str
    kind: str
    python: Path
    model: Path
    patience: float  # seconds in which anything happens that will happen
    env: Mapping[str, str] = field(default_factory=dict)

    def argv(self, port: int, *more: str) -> tuple[str, ...]:
        name, context = (
            ("--model-path", "--context-length") if self.engine == "sglang" else ("--model", "--max-model-len")
        )
        words = (str(self.python), "-m", MODULES[self.engine], name, str(self.model), "--served-model-name", "tiny")
        return (*words, "--host", "127.0.0.1", "--port", str(port), context, str(CONTEXT), *FLAGS[self.engine], *more)

    def environ(self, **behaviour: Any) -> dict[str, str]:
        """What its environment needs. A real engine has no behaviour but its own."""
        told = {"token_delay": 0.02, **behaviour}
        return dict(self.env) | ({} if self.kind == "real" else {"DOUBLE_BEHAVIOUR": json.dumps(told, default=str)})

    async def ready(self, port: int) -> Api:
        api = Api(port)
        path = "/ready" if self.engine == "sglang" else "/health"
        async with asyncio.timeout(self.patience):
            while True:
                try:
                    if (await api.get(path)).status == 200:
                        return api
                except OSError:
                    pass
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def streaming(self, api: Api, tokens: int = LONG) -> AsyncIterator[Any]:
        """An answer under way, far from its end."""
        asked = chat("tiny", stream=True, max_tokens=tokens, ignore_eos=True)
        async with api.open("POST", "/v1/chat/completions", asked) as answer:
            assert answer.status == 200
            while answer.raw.count(b"data: ") < 3:
                assert await answer.part()
            yield answer


def double(folder: Path, engine: str) -> Subject:
    python = make_python(folder / engine, engine)
    return Subject(engine, "double", python, write_model(folder / "tiny"), 60.0, {"VLLM_SERVER_DEV_MODE": "1"})


def real(engine: str) -> Subject:
    python = ENGINES / engine / "bin" / "python"
    model = ENGINES / "models" / "tiny"
    assert python.exists(), f"{python} is missing: run scripts/engines.sh {engine}"
    return Subject(engine, "real", python, model, 300.0, ENV[engine])


def write_model(folder: Path) -> Path:
    """A model folder for who reads only its headers."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
        "num_attention_heads": 2, "num_hidden_layers": 1, "num_key_value_heads": 1, "max_position_embeddings": 4096,
        "vocab_size": 512, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({"w": {"dtype": "BF16", "shape": [512], "data_offsets": [0, 1024]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(1024))
    return folder


# --- processes ---


def tree(pid: int) -> dict[str, Watched]:
    """A process and all below it, by name and pid."""
    found = {f"{name} {child}": Watched(child) for child, name in below(pid).items()}
    return {f"main {pid}": Watched(pid)} | found


def below(pid: int) -> dict[int, str]:
    """Names (comm) of the processes below one, by pid."""
    found = {}
    for one in psutil.Process(pid).children(recursive=True):
        try:
            found[one.pid] = Path(f"/proc/{one.pid}/comm").read_text().strip()
        except OSError:
            pass  # it has ended
    return found


async def importing(subject: Subject, pid: int) -> dict[str, Watched]:
    """Waits until its children have begun to import what they need; the whole tree then."""
    async with asyncio.timeout(subject.patience):
        while len(below(pid)) < STARTED[subject.engine]:
            await asyncio.sleep(0.02)
    return tree(pid)


@asynccontextmanager
async def alone(
    subject: Subject, install: str, *more: str, log: Path = Path(os.devnull), **behaviour: Any
) -> AsyncIterator[tuple[Any, int]]:
    """It runs under nobody; its process and port. In the end all of it is killed, by the mark in its environment."""
    port = free_port()
    env = os.environ | subject.environ(**behaviour) | {"ROUNDHOUSE_ENGINE": f"{install}:alone", "SPT_NOENV": "1"}
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *subject.argv(port, *more),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process, port
    finally:
        for one in all_of(install).values():
            one.signal()
            one.close()
        await process.wait()
