"""Which last words mean want of memory (spec D10): real logs, and for GPUs lines as the sources write them."""

from __future__ import annotations

import pytest

from roundhouse.engines import ENGINES
from roundhouse.launchers.lines import LineSplitter
from tests.engines.models import CAPTURES

LOGS = sorted(
    path for name in ("llamacpp", "sglang", "vllm") for path in (CAPTURES.parent / name / "failures").glob("*")
)
SHORT = {"llamacpp/no-memory"}
"""Of vLLM's `cache` more room would be no help: the size of its cache is told to it."""


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_d10_real_failures(path):
    splitter = LineSplitter()
    lines = [*splitter.feed(path.read_bytes()), *splitter.close()]
    name = path.parts[-3]
    assert ENGINES[name].out_of_memory(lines) is (f"{name}/{path.stem}" in SHORT)


TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 23.65 GiB of which",
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 128.00 MiB (GPU 0; 23.65 GiB total capacity)",
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 23.98 GiB",
    "RuntimeError: CUDA error: out of memory",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
    "MemoryError",
    "OSError: [Errno 12] Cannot allocate memory",
)
WORDS = {
    "llamacpp": (
        "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9216.00 MiB on device 1: cudaMalloc failed: out of memory",
        "E alloc_tensor_range: failed to allocate CUDA0 buffer of size 9663676416",
        "E llama_model_load: error loading model: unable to allocate CUDA0 buffer",
        "E llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers",
        "ggml_vulkan: Device memory allocation of size 1073741824 failed.",
        "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
        "CUDA error: out of memory",
        "  current device: 0, in function alloc at ggml-cuda.cu:503\n  cuMemCreate(&handle, reserve_size, &prop, 0)\nCUDA error: out of memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "E ggml_aligned_malloc: insufficient memory (attempted to allocate 5760.00 MB)",
        "E llama_mmap: mmap failed: Cannot allocate memory",
    ),
    "sglang": (
        *TORCH,
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: mem_fraction_static=0.5",
        "ValueError: Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static=0.1.",
        "Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 20.00 MiB",
        "[2026-11-22 17:14:57] Subprocess scheduler_0 (pid=10203) crashed with exit code -9. Triggering SIGQUIT",
        "RuntimeError: Rank 0 scheduler died during initialization (exit code: -9). If exit code is -9 (SIGKILL), a",
    ),
    "vllm": (
        *(f"(EngineCore_DP0 pid=7) ERROR 11-22 22:19:02 [core.py:1510] {line}" for line in TORCH),
        "ValueError: Free memory on device cuda:0 (3.1/23.6 GiB) on startup is less than desired GPU memory utilization (0.9",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the",
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests.",
        "ERROR 11-22 22:19:02 [multiproc_executor.py:1] Worker proc VllmWorker-0 died unexpectedly (exit code: -9)",
    ),
    "tabbyapi": (
        *TORCH[:4],
        "RuntimeError: Insufficient VRAM in split for model and cache",
        "not enough GPU memory (Insufficient VRAM in split for model and cache): give it a smaller `max_seq_len`, or a",
        "RuntimeError: CUDA error: CUDA_ERROR_OUT_OF_MEMORY",
        TORCH[-1],
    ),
    "openai": (*TORCH[:4], "fatal: out of memory", "terminate called after throwing an instance of 'std::bad_alloc'"),
}


@pytest.mark.parametrize(("engine", "line"), [(name, line) for name, lines in WORDS.items() for line in lines])
def test_d10_words_of_want(engine, line):
    assert ENGINES[engine].out_of_memory(["all is well", *line.splitlines(), "exiting due to model loading error"])


OTHER = (
    "E gguf_init_from_file: failed to open GGUF file '/m/a' (Permission denied)",
    "ValueError: Model architectures ['FooForCausalLM'] are not supported for now.",
    "RuntimeError: Rank 0 scheduler died during initialization (exit code: 1). If exit code is -9 (SIGKILL), a common cause is the OS OOM killer",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "INFO 11-22 17:25:59 [gpu_worker.py:760] Available KV cache memory: 8.1 GiB",
    "[2026-11-22 17:15:20] Memory pool end. avail mem=18.77 GB",
    "llama_kv_cache: size =  144.00 MiB (  8192 cells,  18 layers,  2/2 seqs), K (f16):   72.00 MiB",
    "Worker proc VllmWorker-0 died unexpectedly (exit code: 1)",
)


@pytest.mark.parametrize("engine", WORDS)
def test_d10_other_words(engine):
    assert [line for line in OTHER if ENGINES[engine].out_of_memory([line])] == []
    assert not ENGINES[engine].out_of_memory([])
