"""Lines of real runs (captures), and of GPUs and older versions as their source writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Progress
from roundhouse.engines.sglang.log import failure, progress
from roundhouse.launchers.lines import LineSplitter
from tests.engines.models import CAPTURES

HERE = CAPTURES.parent / "sglang"


def lines(name: str) -> list[str]:
    splitter = LineSplitter()
    return [*splitter.feed((HERE / name).read_bytes()), *splitter.close()]


def test_c5_a_real_load_goes_from_start_to_ready_and_never_back():
    seen = [found for line in lines("load.log") if (found := progress(line))]
    fractions = [found.fraction for found in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert list(dict.fromkeys(found.stage for found in seen)) == [
        "starting", "reading weights", "allocating the cache", "starting to serve", "warming up", "ready",
    ]  # fmt: skip


GPU = """\
[2026-11-22 17:14:01 TP0] Init torch distributed begin.
[2026-11-22 17:14:04 TP0] Load weight begin. avail mem=94.09 GB
Loading safetensors checkpoint shards:   0% Completed | 0/13 [00:00<?, ?it/s]
Loading safetensors checkpoint shards:  50% Completed | 6/13 [00:04<00:05,  1.4it/s]
[2026-11-22 17:14:53 TP0] Load weight end. type=LlamaForCausalLM, dtype=torch.float16, avail mem=56.4 GB
[2026-11-22 17:14:55 TP0 EP0] KV Cache is allocated. #tokens: 8192, K size: 0.02 GB, V size: 0.02 GB
[2026-11-22 17:14:55 TP0] Memory pool end. avail mem=18.77 GB
[2026-11-22 17:14:55 TP0] Capture target prefill CUDA graph begin. backend=full, num_tokens=8, avail mem=9.00 GB
Capturing prefill shape (num_tokens=256 avail_mem=1.23 GB):  50%|█████     | 4/8 [00:01<00:01,  3.1it/s]
[2026-11-22 17:14:57 TP0] Capture target decode CUDA graph begin. backend=full, num_tokens_per_req=1, avail mem=9 GB
Capturing batches (bs=8 avail_mem=1.23 GB):  37%|███▋      | 3/8 [00:01<00:02,  2.1it/s]
Capturing batches (bs=1 avail_mem=1.21 GB): 100%|██████████| 8/8 [00:03<00:00,  2.1it/s]
Compiling num tokens (num_tokens=4):  50%|█████     | 4/8 [00:01<00:01,  3.1it/s]
[2026-11-22 17:15:20 TP0] max_total_num_tokens=8192, chunked_prefill_size=4096
[2026-11-22 17:15:20] INFO:     Uvicorn running on http://127.0.0.1:30000 (Press CTRL+C to quit)
[2026-11-22 17:15:22] The server is fired up and ready to roll!
"""


def test_c5_on_gpus_and_in_older_versions_too():
    seen = [progress(line) for line in GPU.splitlines()]
    assert None not in seen
    fractions = [found.fraction for found in seen if found]
    assert fractions == sorted(fractions)
    assert seen[3] == Progress(pytest.approx(0.365), "reading weights")
    assert seen[10] == Progress(pytest.approx(0.78 + 0.12 * 0.37), "capturing graphs")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Ignore import error when loading sglang.srt.models.grok: Load weight begin",
        '[2026-11-22 17:14:57] INFO:     127.0.0.1:34580 - "GET /model_info HTTP/1.1" 200 OK',
        "[2026-11-22 17:15:25] Decode batch, #running-req: 1, #token: 3, token usage: 0.00",
        "Warmup prefill shapes (up to 32K):  10%|█ | 1/10",
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
        ("quantisation", "it does not know the quantisation `exl2`; another engine may"),
        ("cut", ("a weight file is damaged or incomplete (Error while deserializing header: incomplete metadata, file not "
                "fully covered): download it again")),
        ("port", "port 18412 is taken by another program"),
    ],
)  # fmt: skip
def test_real_failures_are_told_in_words(name, words):
    assert failure(lines(f"failures/{name}.log")) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            (
                "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: "
                "mem_fraction_static=0.5"
            ),
            "the weights leave no memory for the cache",
        ),
        (
            "ValueError: Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static=0.1.",
            "the weights",
        ),
        (
            "Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 20.00 MiB",
            "not enough GPU memory for CUDA graphs",
        ),
        (
            "[2026-11-22 17:14:57] Subprocess scheduler_0 (pid=10203) crashed with exit code -9. Triggering SIGQUIT",
            "one of its processes was killed (signal 9)",
        ),
        (
            "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9). If exit code is -9 (SIGKILL), a",
            "one of its processes was killed (signal 9)",
        ),
        (
            "[2025-10-25 01:02:03] Rank 0 scheduler is dead. Please check if there are relevant logs.\nExit code: -9",
            "one of its processes was killed (signal 9)",
        ),
        (
            (
                "[2026-11-22 17:14:57 TP1] Scheduler hit an exception: Traceback (most recent call last):\n"
                '  File "x.py", line 3, in run\nRuntimeError: odd\n\n[2026-11-22 17:14:58] SIGQUIT received.'
            ),
            "odd (RuntimeError)",
        ),
    ],
)
def test_failures_that_take_a_gpu_or_another_version(line, words):
    assert failure(line.splitlines()).startswith(words)


def test_a_log_that_tells_nothing_gives_no_words():
    assert failure(["[2026-11-22 17:14:57] Load weight begin. avail mem=20.09 GB"]) == ""
