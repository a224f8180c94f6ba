"""Lines of real runs (captures), and of GPUs as the source writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Progress
from roundhouse.engines.vllm.log import failure, held, progress
from roundhouse.launchers.lines import LineSplitter
from tests.engines.models import CAPTURES

HERE = CAPTURES.parent / "vllm"


def lines(name: str) -> list[str]:
    splitter = LineSplitter()
    return [*splitter.feed((HERE / name).read_bytes()), *splitter.close()]


def test_c5_a_real_load_goes_from_start_to_ready_and_never_back():
    seen = [found for line in lines("load.log") if (found := progress(line))]
    fractions = [found.fraction for found in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert list(dict.fromkeys(found.stage for found in seen)) == [
        "starting", "reading weights", "preparing the model", "allocating the cache", "starting to serve", "ready",
    ]  # fmt: skip


GPU = """\
(APIServer pid=1) INFO 11-22 17:25:20 [api_utils.py:286] non-default args: {'model': 'x'}
(EngineCore_DP0 pid=2) INFO 11-22 17:25:30 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='x'
(Worker_TP0 pid=3) INFO 11-22 17:25:39 [gpu_model_runner.py:5040] Starting to load model x...
Loading safetensors checkpoint shards:  50% Completed | 8/16 [00:00<00:00, 76.10it/s]
(Worker_TP0 pid=3) INFO 11-22 17:25:39 [default_loader.py:501] Loading weights took 0.17 seconds
(Worker_TP0 pid=3) INFO 11-22 17:25:39 [gpu_model_runner.py:5150] Model loading took 8.5 GiB memory and 0.9 seconds
(Worker_TP0 pid=3) INFO 11-22 17:25:45 [backends.py:1167] Dynamo bytecode transform time: 4.51 s
(Worker_TP0 pid=3) INFO 11-22 17:25:55 [backends.py:399] Compiling a graph for compile range (1, 8192) takes 9.51 s
(Worker_TP0 pid=3) INFO 11-22 17:25:57 [monitor.py:20] torch.compile took 16.20 s in total
(Worker_TP0 pid=3) INFO 11-22 17:25:59 [gpu_worker.py:760] Available KV cache memory: 8.1 GiB
(EngineCore_DP0 pid=2) INFO 11-22 17:26:00 [kv_cache_utils.py:2327] GPU KV cache size: 262,144 tokens, Maximum
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|█████     | 4/8 [00:01<00:01,  3.1it/s]
Capturing CUDA graphs (decode, FULL):  50%|█████     | 4/8 [00:01<00:01,  3.1it/s]
(Worker_TP0 pid=3) INFO 11-22 17:26:09 [gpu_model_runner.py:6582] Graph capturing finished in 5 secs, took 0.60 GiB
(EngineCore_DP0 pid=2) INFO 11-22 17:26:10 [core.py:402] init engine (profile, create kv cache, warmup model) took 9 s
(APIServer pid=1) INFO 11-22 17:26:10 [entry.py:140] Starting vLLM server on http://127.0.0.1:8000
(APIServer pid=1) INFO:     Application startup complete.
"""


def test_c5_on_gpus_too():
    seen = [progress(line) for line in GPU.splitlines()]
    assert None not in seen
    fractions = [found.fraction for found in seen if found]
    assert fractions == sorted(fractions)
    assert seen[3] == Progress(pytest.approx(0.34), "reading weights")
    assert seen[11] == Progress(pytest.approx(0.80), "capturing graphs")
    assert seen[12] == Progress(pytest.approx(0.88), "capturing graphs")


@pytest.mark.parametrize(
    "line",
    [
        "",
        '(APIServer pid=1) INFO:     127.0.0.1:55050 - "GET /health HTTP/1.1" 200 OK',
        "(APIServer pid=1) INFO 11-22 17:26:10 [loggers.py:335] Engine 000: Avg prompt throughput: 4.8 tokens/s",
        "Adding requests: 100%|██████████| 8/8",
    ],
)
def test_other_lines_say_nothing(line):
    assert progress(line) is None


@given(st.text(max_size=300))
def test_no_line_breaks_it_and_fractions_stay_in_range(line):
    found = progress(line)
    assert found is None or 0 <= (found.fraction or 0) <= 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "/models/nope does not exist"),
        ("empty", "/models/notmodel is not a model: its config.json is missing or says no `model_type`"),
        ("flag", "this version does not know --bogus-flag: see `args`"),
        ("port", "its port is taken by another program"),
        ("cache", ("a context of 1024 tokens takes 0.0 GiB of cache, and it has 0.0: set a smaller `context`, or a larger "
                  "--kv-cache-memory-bytes in `args`")),
    ],
)  # fmt: skip
def test_real_failures_are_told_in_words(name, words):
    assert failure(lines(f"failures/{name}.log")) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            (
                "(EngineCore pid=2) ERROR 11-22 22:19:02 [core.py:1510] ValueError: Free memory on device cuda:0 "
                "(3.2/23.65 GiB) on startup is less than desired GPU memory utilization (0.92, 21.76 GiB). Decrease GPU"
            ),
            "only 3.2 of 23.65 GiB of the GPU are free",
        ),
        ("ValueError: No available memory for the cache blocks. Try increasing", "not enough memory for the cache"),
        (
            (
                "(Worker pid=3) ERROR 11-22 22:19:02 [gpu_model_runner.py:5140] Failed to load model - not enough GPU memory. "
                "Try lowering --gpu-memory-utilization"
            ),
            "not enough GPU memory",
        ),
        (
            (
                "(EngineCore pid=2) ERROR 11-22 22:19:04 [multiproc_executor.py:315] Worker proc VllmWorker-0 died "
                "unexpectedly (exit code: -9), shutting down executor."
            ),
            "one of its processes was killed (signal 9)",
        ),
        (
            (
                "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
                "{'EngineCore_DP0': -9}"
            ),
            "one of its processes was killed (signal 9)",
        ),
        (
            (
                "(EngineCore pid=2) ERROR 11-22 22:19:02 [core.py:1510] RuntimeError: Qwen3ReasoningParser could not locate "
                "think start/end tokens in the tokenizer!"
            ),
            "Qwen3ReasoningParser could not locate think start/end tokens in the tokenizer! (RuntimeError)",
        ),
    ],
)
def test_failures_that_take_a_gpu_or_a_large_model(line, words):
    lines = [line, "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"]
    assert failure(lines).startswith(words)


MEMORY = """\
(Worker_TP0 pid=3) INFO 11-22 17:25:39 [gpu_model_runner.py:5150] Model loading took 8.5 GiB memory and 0.9 seconds
(Worker_TP1 pid=4) INFO 11-22 17:25:39 [gpu_model_runner.py:5150] Model loading took 8.25 GiB memory and 0.9 seconds
(Worker_TP0 pid=3) INFO 11-22 17:25:56 [gpu_worker.py:491] {cache}
(Worker_TP0 pid=3) INFO 11-22 17:26:07 [gpu_model_runner.py:6000] Graph capturing finished in 4 secs, took 0.5 GiB"""


@pytest.mark.parametrize(
    "cache",
    [
        "Available KV cache memory: 4.0 GiB",
        (
            "Initial free memory 22.76 GiB, reserved 4.0 GiB memory for KV Cache as specified by "
            "kv_cache_memory_bytes config and skipped memory profiling."
        ),
    ],
)
def test_d1_what_it_took_is_weights_cache_and_graphs_of_one_gpu(cache):
    assert held(MEMORY.format(cache=cache).splitlines()) == 13 * 2**30


def test_d1_a_cpu_says_nothing_of_its_weights():
    assert held(lines("load.log")) is None
