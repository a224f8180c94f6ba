from __future__ import annotations

import re

import pytest

from roundhouse.core.model import Progress
from roundhouse.engines import torchlog
from roundhouse.engines.torchlog import COMMON, ROOM, failure

CHILD = re.compile(r"child gone, code (?P<code>-?\d+)")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of "
                "23.65 GiB of which 1.02 GiB is free. Process 3 has 22.6 GiB memory in use."
            ),
            f"not enough memory on GPU 1 (1.02 GiB of 23.65 GiB left): {ROOM}",
        ),
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 128.00 MiB (GPU 0; 23.65 GiB total)",
            f"not enough GPU memory for 128.00 MiB more: {ROOM}",
        ),
        ("RuntimeError: CUDA error: out of memory", f"not enough GPU memory: {ROOM}"),
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory",
            f"not enough memory: {ROOM}",
        ),
        ("OSError: [Errno 98] Address already in use", "its port is taken by another program"),
        ("/m/x does not appear to have a file named config.json", "/m/x is not a model"),
        (
            (
                "ValueError: The checkpoint you are trying to load has model type `new9` but Transformers does not recognize "
                "this architecture."
            ),
            "its Transformers does not know the architecture new9",
        ),
        (
            "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: x",
            "this version does not know the architecture FooForCausalLM",
        ),
        (
            "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89.",
            "this GPU is too old for the quantisation `fp8`",
        ),
        (
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "other GPU architectures",
        ),
        ("RuntimeError: Found no NVIDIA driver on your system.", "the NVIDIA driver is missing or too old"),
        ("ModuleNotFoundError: No module named 'sgl_kernel'", "(No module named 'sgl_kernel'): install it anew"),
        (
            "api_server.py: error: argument --port: invalid int value: 'x'",
            "the argument --port (invalid int value: 'x')",
        ),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ],
)
def test_causes_are_told_in_words(line, words):
    assert words in failure(
        ["noise", "Traceback (most recent call last):", '  File "x.py", line 1', line, "end"], COMMON, CHILD
    )


def test_else_the_last_exception_that_is_no_consequence():
    lines = [
        "ValueError: first",
        "torch.x.FooError: the last one",
        "RuntimeError: See root cause above.",
        "an error, too",
    ]
    assert failure(lines, COMMON, CHILD) == "the last one (FooError)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, f"one of its processes was killed (signal 9), most likely as the machine's memory ran out: {ROOM}"),
        (-11, "one of its processes was ended by signal 11"),
        (3, "one of its processes ended with exit code 3"),
    ],
)
def test_else_what_became_of_a_child(code, words):
    assert failure(["some error here", f"child gone, code {code}"], COMMON, CHILD) == words


def test_a_childs_own_words_go_before_its_exit_code():
    lines = ["ValueError: its own words", "child gone, code 1", "RuntimeError: worker died unexpectedly"]
    assert failure(lines, COMMON, CHILD) == "its own words (ValueError)"


def test_else_a_line_of_error_or_nothing():
    assert failure(["serve: error: no model given", "fine"], COMMON, CHILD) == "serve: error: no model given"
    assert failure(["this can cause errors like `OSError: [Errno 24] Too many open files`"], COMMON, CHILD) == ""
    assert failure(["all", "is", "well"], COMMON, CHILD) == ""
    assert failure([], COMMON, CHILD) == ""


def test_a_reason_is_one_line_of_a_length_that_can_be_shown():
    assert len(failure(["ValueError: " + "x" * 5000], COMMON, CHILD)) <= 400


def test_bars_and_stages():
    told, drawn = torchlog.stages((r"begin", 0.1, "a")), torchlog.bars((r"Load", 0.2, 0.6, "b"))
    assert torchlog.progress("begin now", told, drawn) == Progress(0.1, "a")
    assert torchlog.progress("Load x:  50% Completed | 1/2 [", told, drawn) == Progress(0.4, "b")
    assert torchlog.progress("Load x: 999%|##", told, drawn) == Progress(0.6, "b")
    for line in ("not begin", "Other:  50%| 1/2", "Load 50% of it", "100%|", ""):
        assert torchlog.progress(line, told, drawn) is None
