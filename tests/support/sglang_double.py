"""A double of SGLang 0.5.23: `python -m sglang.launch_server`, its log, its answers, its processes and how they die.

Measured on the real one (see docs/engines.md and tests/captures/sglang); tests/real holds both to the same tests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import double_tree as tree
from tests.support.double import (
    CAPTURES,
    Door,
    Generation,
    Record,
    Request,
    Streamed,
    Whole,
    pass_stage,
    read_behaviour,
    say,
    with_version,
)
from tests.support.sglang_reply import Reply, refused

if TYPE_CHECKING:
    from tests.support.double import Answer, Behaviour

HOME = CAPTURES / "sglang" / "served"
STAGES = ("import", "parallel", "weights", "cache", "graphs", "bind", "warmup")
"""In this order. Until `import` is over no child has tied itself to its parent; after `bind` the port answers 503."""
SHARDS = 13
NOT_FOUND = Whole(404, {"detail": "Not Found"})
NEW_PATHS = {"/ready", "/model_info", "/server_info"}  # which 0.4 did not have
NO_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 95.00 GiB of "
    "which 1.20 GiB is free. Including non-PyTorch memory, this process has 93.10 GiB memory in use."
)


def log(text: str) -> None:
    say(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}\n")


def access(line: str) -> None:
    log(f"INFO:     {line}")


# --- the scheduler: it loads ---


@dataclass(frozen=True)
class Scheduler:
    """The child that loads the model and computes."""

    options: argparse.Namespace
    behaviour: Behaviour
    parent: int
    told: int  # where the parent reads
    loaded: int  # written to when loaded

    def run(self) -> None:
        os.close(self.told)
        self.stage("import")
        tree.die_with_parent(self.parent)
        tree.retitle("sglang::scheduler")
        self.stage("parallel")
        log("Init parallel begin.")
        log("Init parallel ends. elapsed=0.03 s")
        log("Memory baseline taken. mem usage=0.00 GB")
        log("Ignore import error when loading sglang.srt.models.midashenglm: No module named 'torchaudio'")
        log("Load weight begin. avail mem=20.09 GB")
        self.weights()
        log("Load weight end. elapsed=0.69 s, type=LlamaForCausalLM, avail mem=18.84 GB, mem usage=0.05 GB.")
        self.stage("cache")
        log("KV Cache is allocated. dtype: torch.bfloat16, #tokens: 8192, K size: 0.02 GB, V size: 0.02 GB")
        log("Memory pool end. avail mem=18.77 GB")
        self.graphs()
        length = f"context_len={self.options.context_length}, available_cpu_mem=18.77 GB"
        log(
            f"max_total_num_tokens=8192, chunked_prefill_size=4096, max_prefill_tokens=16384, max_running_requests=4096, {length}"
        )
        os.write(self.loaded, b"!")

    def stage(self, name: str) -> None:
        pass_stage(self.behaviour, name, 1 / len(STAGES))
        if self.behaviour.die_at == name:
            why = NO_MEMORY if self.behaviour.memory_out else "RuntimeError: the double was told to die"
            log(
                f'Scheduler hit an exception: Traceback (most recent call last):\n  File "scheduler.py", line 6352\n{why}\n'
            )
            os.kill(self.parent, signal.SIGQUIT)
            sys.exit(1)

    def weights(self) -> None:
        for shard in range(SHARDS + 1):
            if shard == 1:
                self.stage("weights")
            say(f"{bar('Multi-thread loading shards', shard, SHARDS)}{'' if shard == SHARDS else chr(13)}")
        say("\n")

    def graphs(self) -> None:
        self.stage("graphs")
        log("Capture target decode CUDA graph begin. backend=full, num_tokens_per_req=1, avail mem=18.77 GB")
        sizes = (8, 4, 2, 1)
        for done, size in enumerate((*sizes, 1)):
            say(
                f"\rCapturing batches (bs={size} avail_mem=18.75 GB): {done * 25:3d}%|{'█' * done}{' ' * (4 - done)}| {done}/4 [00:00<00:00,  9.55it/s]"
            )
        say("\n")
        log(
            f"Capture target decode CUDA graph end. bs={list(sizes)}, elapsed=0.42 s, mem usage=0.02 GB, avail mem=18.75 GB."
        )


def bar(what: str, done: int, of: int) -> str:
    return f"{what}: {done * 100 // of:3d}% Completed | {done}/{of} [00:00<00:00, 28.57it/s]"


# --- the launcher: it answers ---


class Server:
    """The main process."""

    def __init__(self, options: argparse.Namespace, behaviour: Behaviour, record: Record) -> None:
        self.options, self.behaviour, self.record = options, behaviour, record
        self.name = options.served_model_name or options.model_path
        self.up = self.draining = False
        self.aborted: set[str] = set()
        self.running: set[str] = set()
        self.children: dict[str, int] = {}
        self.door = Door(self.answer, record, access)

    # its processes

    def spawn(self) -> int:
        """Starts the children, as the launcher does; returns where the scheduler says that it has loaded."""
        words = "Received sigquit from a child process. It usually means the child failed."
        signal.signal(signal.SIGQUIT, lambda *_: self.die(words))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT})  # until all children are known
        reader, writer = os.pipe()
        tree.start_tracker()
        parent = os.getpid()
        scheduler = Scheduler(self.options, self.behaviour, parent, reader, writer)
        self.children["scheduler_0"] = tree.fork(scheduler.run)

        def detokenize() -> None:
            os.close(reader)
            os.close(writer)
            pass_stage(self.behaviour, "import", 0)
            tree.die_with_parent(parent)
            tree.retitle("sglang::detokenizer")

        self.children["detokenizer"] = tree.fork(detokenize)
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGQUIT})
        self.record.note("children", pids=self.children)
        if self.behaviour.leak:
            self.record.note("leaked", child=tree.leak())
        return reader

    def watch(self) -> None:
        """A child that dies takes everything along."""
        for name, pid in self.children.items():
            fd = os.pidfd_open(pid)
            asyncio.get_running_loop().add_reader(fd, self.crashed, name, fd)

    def crashed(self, name: str, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        if self.draining:
            return
        _, status = os.waitpid(self.children[name], 0)
        code = os.waitstatus_to_exitcode(status)
        log(
            f"Subprocess {name} (pid={self.children[name]}) crashed with exit code {code}. Triggering SIGQUIT for cleanup..."
        )
        self.die("SIGQUIT received. signum=None, frame=None. It usually means one child failed.")

    def die(self, words: str) -> None:
        log(words)
        time.sleep(self.behaviour.crash_wait)  # it does not answer meanwhile: 65 s with the real one
        tree.kill(*self.children.values(), os.getpid())

    # its life

    async def run(self, loaded: int) -> int:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(loaded, lambda: ready.set() if os.read(loaded, 1) else loop.remove_reader(loaded))
        self.watch()
        await ready.wait()
        return await self.listen()

    async def listen(self) -> int:
        pass_stage(self.behaviour, "bind", 1 / len(STAGES))
        address = (self.options.host, self.options.port)
        log(
            "Engine startup timings (s): load_weight=0.69, kv_cache_allocation=1.94, scheduler_e2e=5.78, cuda_graph={decode=0.42}, tokenizer_e2e=54.22"
        )
        for line in (
            f"Started server process [{os.getpid()}]",
            "Waiting for application startup.",
            "Application startup complete.",
        ):
            access(line)
        ended = asyncio.Event()
        if not self.behaviour.deaf:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.drain, ended)
        try:
            server = await asyncio.start_server(self.door.serve, *address)
        except OSError:
            log(in_use(self.options))
            self.draining = True
            tree.kill(*self.children.values())
            return 1
        access(f"Uvicorn running on http://{address[0]}:{address[1]} (Press CTRL+C to quit)")
        async with server:
            await self.warm_up()
            await ended.wait()
        return 0

    async def warm_up(self) -> None:
        """The port is open, and says 503."""
        path = self.behaviour.gates.get("warmup")
        while path and not os.path.exists(path):
            await asyncio.sleep(0.01)
        if self.behaviour.hang_at == "warmup":
            return
        await asyncio.sleep(self.behaviour.load_seconds / len(STAGES))
        self.up = True
        log("The server is fired up and ready to roll!")
        self.record.note("ready")

    def drain(self, ended: asyncio.Event) -> None:
        """SIGTERM: waits for what runs, without limit, and takes new requests all the while."""
        if not self.draining:
            self.draining = True
            self.record.note("stopping", working=self.door.working)
            log("SIGTERM received. signum=None frame=None. Draining requests and shutting down...")
            self._draining = asyncio.get_running_loop().create_task(self._drain(ended))

    async def _drain(self, ended: asyncio.Event) -> None:
        while True:
            rids = sorted(self.running)
            log(
                f"Gracefully exiting... Remaining number of requests {len(rids)}. Remaining requests remaining_rids={rids}."
            )
            if not self.door.working:
                break
            await asyncio.sleep(self.behaviour.drain_step)
        tree.kill(*self.children.values())
        self.record.note("stopped")
        ended.set()

    # its answers

    async def answer(self, request: Request) -> Answer:
        old = self.behaviour.version.startswith("0.4")
        if old and request.path in NEW_PATHS:
            return NOT_FOUND
        match request.method, request.path:
            case "GET", "/health" | "/health_generate" | "/ready" | "/ping":
                return Whole(200 if self.up and not self.draining else 503)
            case "GET", "/":
                return Whole(200, '"SGLang is running"')
            case "GET", "/v1/models":
                return Whole(200, {"object": "list", "data": [self.card()]})
            case "GET", "/model_info" | "/get_model_info":
                return Whole(200, self.captured("model_info") | self.identity())
            case "GET", "/server_info" | "/get_server_info":
                return Whole(200, self.server_info())
            case "GET", "/v1/loads":
                loads = self.captured("v1_loads")
                loads["loads"][0]["num_running_reqs"] = len(self.running)
                return Whole(200, loads)
            case "GET", "/metrics" if self.options.enable_metrics:
                return Whole(200, (HOME / "metrics.txt").read_text())
            case "POST", "/abort_request":
                self.aborted |= self.running if request.json().get("abort_all") else {request.json().get("rid", "")}
                return Whole(200)
            case "POST", "/release_memory_occupation" | "/resume_memory_occupation":
                return Whole(200, None)  # without --enable-memory-saver it does nothing, and says nothing
            case "POST", "/v1/embeddings" | "/v1/rerank":
                return refused(
                    "This model does not appear to be an embedding model by default. Please add `--is-embedding` when "
                    "launching the server or try another model."
                )
            case "POST", "/v1/chat/completions" | "/v1/completions":
                return await self.generate(request)
        return NOT_FOUND

    def captured(self, name: str) -> dict[str, Any]:
        return json.loads((HOME / f"{name}.json").read_text())

    def card(self) -> dict[str, Any]:
        card = {
            "id": self.name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "sglang",
            "root": self.name,
        }
        return card | {"parent": None, "max_model_len": self.options.context_length}

    def identity(self) -> dict[str, Any]:
        path = self.options.model_path
        return {"model_path": path, "served_model_name": self.name, "tokenizer_path": path}

    def server_info(self) -> dict[str, Any]:
        info = self.captured("server_info") | self.identity()
        info |= {
            "version": self.behaviour.version,
            "port": self.options.port,
            "context_length": self.options.context_length,
        }
        return info | {"launch_command": " ".join(sys.argv[1:])}

    async def generate(self, request: Request) -> Answer:
        try:
            asked = request.json()
        except ValueError:
            return refused(
                "1 validation error:\n  {'type': 'json_invalid', 'loc': ('body', 0), 'msg': 'JSON decode error'}",
                "Bad Request",
            )
        chat = request.path.endswith("chat/completions")
        if chat and "messages" not in asked:
            return refused(
                "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}",
                "Bad Request",
            )
        turn = Generation(asked, self.behaviour, self.options.context_length)
        if turn.prompt > turn.context:
            return refused(
                f"The input ({turn.prompt} tokens) is longer than the model's context length ({turn.context} tokens)."
            )
        if turn.limit and turn.limit > turn.context:
            return refused(
                f"max_completion_tokens is too large: {turn.limit}."
                f"This model supports at most {turn.context} completion tokens."
            )
        await turn.begin()
        answer = Reply(self, asked, turn, chat=chat)
        return Streamed(answer.events()) if asked.get("stream") else Whole(200, await answer.whole())


# --- the command ---


def in_use(options: argparse.Namespace) -> str:
    address = (options.host, options.port)
    return f"ERROR:    [Errno 98] error while attempting to bind on address {address!r}: address already in use"


def parser() -> argparse.ArgumentParser:
    """The flags that are heeded; all others are taken without a look, as they are the real one's."""
    found = argparse.ArgumentParser("sglang.launch_server", add_help=False, allow_abbrev=False)
    found.add_argument("--model-path", "--model", required=True)
    found.add_argument("--served-model-name", default="")
    found.add_argument("--host", default="127.0.0.1")
    found.add_argument("--port", type=int, default=30000)
    found.add_argument("--context-length", type=int, default=4096)
    found.add_argument("--reasoning-parser", default="")
    found.add_argument("--enable-metrics", action="store_true")
    return found


def main(words: list[str]) -> None:
    if "--help" in words or "-h" in words:
        sys.stdout.write("usage: launch_server.py [-h]\n\noptions:\n" + (HOME / "help-0.5.23.txt").read_text())
        return
    behaviour, (options, _) = with_version(read_behaviour(), "0.5.23"), parser().parse_known_args(words)
    record = Record(behaviour.record)
    record.start(options.port)
    if behaviour.deaf:
        signal.signal(signal.SIGTERM, lambda *_: record.note("deaf"))
    say(
        f"{sys.prefix}/sglang/launch_server.py:71: UserWarning: 'python -m sglang.launch_server' is still supported, but "
        "'sglang serve' is the recommended entrypoint.\n  Example: sglang serve --model-path <model> [options]\n"
    )
    log(
        f"server_args={ {'model_path': options.model_path, 'tokenizer_path': options.model_path, 'port': options.port} }"
    )
    if behaviour.occupied:
        log(in_use(options))
        sys.exit(1)
    server = Server(options, behaviour, record)
    loaded = server.spawn()
    sys.exit(asyncio.run(server.run(loaded)))


if __name__ == "__main__":
    main(sys.argv[1:])
