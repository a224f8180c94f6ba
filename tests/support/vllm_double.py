"""A double of vLLM 0.32.0: `python -m vllm.entrypoints.openai.api_server`, its log, its answers, its processes.

Measured on the real one (see docs/engines.md and tests/captures/vllm); tests/real holds both to the same tests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

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
from tests.support.vllm_reply import DEAD, EngineDead, Reply, refused, too_long, too_many

if TYPE_CHECKING:
    from tests.support.double import Answer, Behaviour

HOME = CAPTURES / "vllm" / "served"
STAGES = ("import", "weights", "compile", "cache", "graphs")
"""In this order; the port is bound from the beginning, and listens when all is done: then it answers 200."""
SHARDS = 13
NOT_FOUND = Whole(404, {"detail": "Not Found"})
NO_MEMORY = (
    "ValueError: Free memory on device cuda:0 (1.2/95.0 GiB) on startup is less than desired GPU memory utilization "
    "(0.92, 87.4 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)


def log(who: str, where: str, text: str, level: str = "INFO") -> None:
    say(f"({who} pid={os.getpid()}) {level} {time.strftime('%m-%d %H:%M:%S')} [{where}] {text}\n")


def access(line: str) -> None:
    say(f"INFO:     {line}\n")


# --- the engine's processes: they load ---


@dataclass(frozen=True)
class Core:
    """`VLLM::EngineCore`, with its `VLLM::Worker`. Neither is tied to its parent's life."""

    options: argparse.Namespace
    behaviour: Behaviour
    record: Record
    told: int  # where the parent reads
    loaded: int  # written to when loaded

    def run(self) -> None:
        os.close(self.told)
        self.stage("import")
        tree.retitle("VLLM::EngineCore")
        log(
            "EngineCore",
            "core.py:133",
            f"Initializing a V1 LLM engine (v{self.behaviour.version}) with config: model='{self.options.model}'",
        )
        worker = tree.fork(self.work)
        self.record.note("worker", child=worker)
        _, status = os.waitpid(worker, 0)  # it goes on; its end is ours
        sys.exit(os.waitstatus_to_exitcode(status) and 1)

    def stage(self, name: str) -> None:
        pass_stage(self.behaviour, name, 1 / len(STAGES))
        if self.behaviour.die_at == name:
            why = NO_MEMORY if self.behaviour.memory_out else "RuntimeError: the double was told to die"
            log("EngineCore", "core.py:1130", "EngineCore failed to start.", "ERROR")
            log("EngineCore", "core.py:1130", why, "ERROR")
            sys.exit(1)

    def work(self) -> None:
        tree.retitle("VLLM::Worker")
        log("Worker", "cpu_model_runner.py:68", f"Starting to load model {self.options.model}...")
        for shard in (0, 8, SHARDS):
            if shard:
                self.stage("weights")
            say(
                f"Loading safetensors checkpoint shards: {shard * 100 // SHARDS:3d}% Completed | {shard}/{SHARDS} [00:00<00:00, 76.10it/s]\n"
            )
        say("\n")
        log("Worker", "default_loader.py:501", "Loading weights took 0.17 seconds")
        log("Worker", "gpu_model_runner.py:4321", "Model loading took 0.05 GiB memory and 0.32 seconds")
        self.stage("compile")
        log("Worker", "monitor.py:34", "torch.compile took 8.41 s in total")
        self.stage("cache")
        log("Worker", "gpu_worker.py:391", "Available KV cache memory: 1.00 GiB")
        size = "262,144 tokens, Maximum concurrency for 1,024 tokens per request: 256.00x"
        log("Worker", "kv_cache_utils.py:2327", f"GPU KV cache size: {size}")
        self.stage("graphs")
        for done in range(5):
            say(
                f"\rCapturing CUDA graphs (decode, FULL): {done * 25:3d}%|{'█' * done}{' ' * (4 - done)}| {done}/4 [00:00<00:00,  9.55it/s]"
            )
        say("\n")
        log("Worker", "gpu_model_runner.py:5102", "Graph capturing finished in 1 secs, took 0.10 GiB")
        log("Worker", "core.py:402", "init engine (profile, create kv cache, warmup model) took 0.55 s")
        os.write(self.loaded, b"!")


# --- the API server: it answers ---


class Server:
    """The main process."""

    def __init__(self, options: argparse.Namespace, behaviour: Behaviour, record: Record) -> None:
        self.options, self.behaviour, self.record = options, behaviour, record
        self.names = options.served_model_name or [options.model]
        self.core = 0
        self.asleep: set[str] = set()  # what is still to be woken
        self.awake = asyncio.Event()
        self.cut = self.draining = False  # the engine is gone; it takes nothing new
        self.door = Door(self.answer, record, access)

    def spawn(self) -> int:
        """Starts the engine's processes; returns where they say that they have loaded."""
        reader, writer = os.pipe()
        tree.start_tracker()
        core = Core(self.options, self.behaviour, self.record, reader, writer)
        self.core = tree.fork(core.run)
        os.close(writer)
        self.record.note("children", pids={"core": self.core})
        if self.behaviour.leak:
            self.record.note("leaked", child=tree.leak())
        return reader

    # its life

    async def run(self, bound: socket.socket, loaded: int) -> int:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        ready = asyncio.Event()
        loop.add_reader(loaded, lambda: ready.set() if os.read(loaded, 1) else loop.remove_reader(loaded))
        fd = os.pidfd_open(self.core)
        loop.add_reader(fd, lambda: (loop.remove_reader(fd), self.core_ended(ended)))
        if not self.behaviour.deaf:
            loop.add_signal_handler(signal.SIGTERM, self.interrupt, ended)
        waiting = loop.create_task(ready.wait())
        await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if ended.done():
            return ended.result()
        return await self.listen(bound, ended)

    def interrupt(self, ended: asyncio.Future[int]) -> None:
        """SIGTERM while loading: initialisation is interrupted, the engine's processes are told."""
        self.cut = True
        tree.end_tree(self.core)
        say("KeyboardInterrupt: terminated\n")
        ended.set_result(130)

    def core_ended(self, ended: asyncio.Future[int]) -> None:
        """Without its engine the server ends."""
        if not self.cut and not ended.done():
            self.cut = True
            log(
                "APIServer",
                "core_client.py:601",
                "RuntimeError: Engine core initialization failed. See root cause above.",
                "ERROR",
            )
            tree.end_tree(self.core)
            ended.set_result(1)

    async def listen(self, bound: socket.socket, ended: asyncio.Future[int]) -> int:
        loop = asyncio.get_running_loop()
        if not self.behaviour.deaf:
            loop.add_signal_handler(signal.SIGTERM, self.stop, ended)
        log("APIServer", "entry.py:140", f"Starting vLLM server on http://{self.options.host}:{self.options.port}")
        server = await asyncio.start_server(self.door.serve, sock=bound)
        for line in (
            f"Started server process [{os.getpid()}]",
            "Waiting for application startup.",
            "Application startup complete.",
        ):
            access(line)
        self.awake.set()
        self.record.note("ready")
        async with server:
            code = await ended
            server.close()
        return code

    def stop(self, ended: asyncio.Future[int]) -> None:
        """SIGTERM once it is up."""
        if not self.draining:
            self.draining = True
            self.record.note("stopping", working=self.door.working)
            log("APIServer", "launcher.py:254", "[shutdown] API server: shutdown triggered")
            self._stopping = asyncio.get_running_loop().create_task(self._stop(ended))

    async def _stop(self, ended: asyncio.Future[int]) -> None:
        """Drains for --shutdown-timeout; with 0 the engine goes at once, and open answers stall until their clients leave."""
        limit = self.options.shutdown_timeout
        until = time.monotonic() + limit
        log(
            "APIServer",
            "launcher.py:270",
            f"[shutdown] API server: stopping engine client mode={'drain' if limit else 'abort'} timeout={limit}s",
        )
        while self.door.working and time.monotonic() < until:
            await asyncio.sleep(self.behaviour.drain_step)
        self.cut = True
        tree.end_tree(self.core)
        if self.door.working:
            access("Waiting for connections to close. (CTRL+C to force quit)")
        while self.door.working:
            await asyncio.sleep(self.behaviour.drain_step)
        self.record.note("stopped")
        if not ended.done():
            ended.set_result(0)

    # its answers

    async def answer(self, request: Request) -> Answer:
        match request.method, request.path:
            case "GET", "/health":
                return Whole(503 if self.cut else 200)
            case "GET", "/ping":
                return Whole(200)
            case "GET", "/load":
                return Whole(200, {"server_load": self.door.working})
            case "GET", "/version":
                return Whole(200, {"version": self.behaviour.version})
            case "GET", "/v1/models":
                return Whole(200, {"object": "list", "data": [self.card(name) for name in self.names]})
            case "GET", "/metrics":
                return Whole(200, self.metrics())
            case "POST", "/v1/chat/completions" | "/v1/completions":
                return await self.generate(request)
        return self.control(request) if os.environ.get("VLLM_SERVER_DEV_MODE") == "1" else NOT_FOUND

    def control(self, request: Request) -> Answer:
        """What VLLM_SERVER_DEV_MODE=1 adds."""
        wanted = parse_qs(request.query)
        match request.method, request.path:
            case "GET", "/is_sleeping":
                return Whole(200, {"is_sleeping": bool(self.asleep)})
            case "GET", "/server_info":
                return Whole(200, json.loads((HOME / "server_info.json").read_text()))
            case "POST", "/sleep":
                self.asleep = {"weights", "kv_cache"}
                self.awake.clear()
                return Whole(200, {"status": "sleeping", "level": int(wanted.get("level", ["1"])[0])})
            case "POST", "/wake_up":
                tags = wanted.get("tags")
                self.asleep -= set(tags or self.asleep)
                if not self.asleep:
                    self.awake.set()
                return Whole(200, {"status": "sleeping" if self.asleep else "awake", "tags": tags})
            case "POST", "/abort_requests":
                return Whole(200, {"status": "aborted", "aborted": 0})
        return NOT_FOUND

    def metrics(self) -> str:
        """Those of an idle one, but for what runs."""
        text = (HOME / "metrics.txt").read_text()
        return re.sub(r"(?m)^(vllm:num_requests_running\{.*\}) .*$", rf"\1 {self.door.working}.0", text)

    def card(self, name: str) -> dict[str, Any]:
        now = int(time.time())
        card = json.loads((HOME / "v1_models.json").read_text())["data"][0]
        return card | {
            "id": name,
            "created": now,
            "root": self.options.model,
            "max_model_len": self.options.max_model_len,
        }

    async def generate(self, request: Request) -> Answer:
        if self.draining:
            return refused(500, "cannot schedule new futures after shutdown", "InternalServerError", None)
        try:
            asked = request.json()
        except ValueError:
            return refused(
                400,
                "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.0', 'msg': 'JSON decode error'}",
                "Bad Request",
                "body.0",
            )
        chat = request.path.endswith("chat/completions")
        if asked.get("model", self.names[0]) not in self.names:
            words = f"The model `{asked['model']}` does not exist. Valid aliases: {', '.join(self.names)}."
            return refused(404, words, "NotFoundError", "model")
        if chat and "messages" not in asked:
            return refused(
                400,
                "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required'}",
                "Bad Request",
                "body.messages",
            )
        turn = Generation(asked, self.behaviour, self.options.max_model_len)
        if turn.prompt > turn.context:
            return refused(400, too_long(turn), "BadRequestError", "input_tokens")
        if turn.limit and turn.limit > turn.context:
            return refused(400, too_many(turn), "BadRequestError", "max_tokens")
        await self.awake.wait()  # while it sleeps requests hang: nothing wakes it
        await turn.begin()
        answer = Reply(self, asked, turn, chat=chat)
        if asked.get("stream"):
            return Streamed(answer.events())
        try:
            return Whole(200, await answer.whole())
        except EngineDead:
            return DEAD


# --- the command ---


def parser() -> argparse.ArgumentParser:
    """The flags that are heeded; all others are taken without a look, as they are the real one's."""
    found = argparse.ArgumentParser("vllm", add_help=False, allow_abbrev=False)
    found.add_argument("--model", required=True)
    found.add_argument("--served-model-name", nargs="+")
    found.add_argument("--host", default="127.0.0.1")
    found.add_argument("--port", type=int, default=8000)
    found.add_argument("--max-model-len", type=int, default=4096)
    found.add_argument("--shutdown-timeout", type=int, default=0)
    found.add_argument("--reasoning-parser", default="")
    return found


def occupied() -> int:
    """A port that is taken."""
    taken = socket.create_server(("127.0.0.1", 0))
    port: int = taken.getsockname()[1]
    taken.detach()  # for as long as this process lives
    return port


def main(words: list[str]) -> None:
    if any(word.startswith(("--help", "-h")) and word != "--host" for word in words):
        sys.stdout.write("usage: api_server.py [-h]\n\noptions:\n" + (HOME / "help-0.32.0.txt").read_text())
        return
    behaviour, (options, _) = with_version(read_behaviour(), "0.32.0"), parser().parse_known_args(words)
    record = Record(behaviour.record)
    record.start(options.port)
    if behaviour.deaf:
        signal.signal(signal.SIGTERM, lambda *_: record.note("deaf"))
    log("APIServer", "api_utils.py:347", f" ▄▄ ▄█ █     █     █ ▀▄▀ █  version {behaviour.version}")
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((options.host, options.port if not behaviour.occupied else occupied()))
    except OSError as error:
        say(
            f'Traceback (most recent call last):\n  File "network_utils.py", line 61, in create_server_socket\n{type(error).__name__}: {error}\n'
        )
        sys.exit(1)
    server = Server(options, behaviour, record)
    loaded = server.spawn()
    sys.exit(asyncio.run(server.run(bound, loaded)))


if __name__ == "__main__":
    main(sys.argv[1:])
