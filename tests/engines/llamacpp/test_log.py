import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Progress
from roundhouse.engines.llamacpp import layout
from roundhouse.engines.llamacpp.log import failure, held, progress
from tests.engines.models import CAPTURES, MIB

REASONS = {
    "missing": "the file /models/missing.gguf does not exist",
    "missing-b10434": "the file /models/missing.gguf does not exist",
    "not-gguf": "/models/notes.gguf is not a GGUF file",
    "empty": "/models/empty.gguf is not a GGUF file",
    "directory": "/models is not a GGUF file",
    "truncated": "/models/truncated.gguf is incomplete: download it again",
    "truncated-b10434": "/models/truncated.gguf is incomplete: download it again",
    "unknown-arch": "this llama.cpp build does not know the architecture 'zorba': a newer one may",
    "version": "/models/version9.gguf is of GGUF version 9: take a newer llama.cpp",
    "bad-flag": "llama-server does not know the argument --frobnicate: see `args`",
    "no-value": "llama-server can't use the argument -c (expected value for argument): see `args`",
    "kv-type": "llama-server can't use the argument -ctk (Unsupported cache type: q9_9): see `args`",
    "no-memory": "not enough memory for 5760.00 MB more: give it a smaller `context` or fewer `slots`",
    "port-taken": "port 39202 is taken by another program",
    "mmproj-missing": "the file /models/mmproj-x.gguf does not exist",
    "mmproj-not": "/models/tiny.gguf is no vision projector for this model",
    "no-avx512-b10434": "this llama-server was built for processors with AVX-512 and crashed: install another build",
}


def captured(name: str) -> list[str]:
    return (CAPTURES / "failures" / f"{name}.log").read_text().splitlines()


def test_each_captured_failure_has_its_reason_here():
    assert {path.stem for path in (CAPTURES / "failures").glob("*.log")} == set(REASONS)


@pytest.mark.parametrize("name", REASONS)
def test_c2_the_reason_of_a_captured_failure(name: str):
    assert failure(captured(name)) == REASONS[name]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9216.00 MiB on device 1: cudaMalloc failed: out of memory",
            "not enough memory on GPU 1 for 9216.00 MiB more",
        ),
        ("ggml_vulkan: Device memory allocation of size 1073741824 failed.", "not enough GPU memory"),
        ("E llama_init_from_model: failed to allocate buffer for kv cache", "not enough memory: "),
        ("/src/ggml.c:1234: GGML_ASSERT(a->ne[0] == 1) failed", "llama.cpp gave up at ggml.c:1234: GGML_ASSERT"),
        (
            "0.00.1 E gguf_init_from_file: failed to open GGUF file '/m/a' (Permission denied)",
            "the file /m/a can't be opened",
        ),
    ],
)
def test_c2_reasons_known_from_the_source(line: str, words: str):
    assert failure([line]).startswith(words)


def test_an_unknown_failure_is_told_in_the_engines_own_words():
    lines = [
        "0.00.007.473 I srv    load_model: loading model '/models/m.gguf'",
        "0.00.008.017 E cmn  common_init_: the flux capacitor is missing",
        "0.00.008.683 E srv  llama_server: exiting due to model loading error",
    ]
    assert failure(lines) == "the flux capacitor is missing"


def test_errors_of_single_requests_are_no_reason_for_an_end():
    lines = [
        "0.00.044.873 I srv  llama_server: listening on http://127.0.0.1:47881",
        "0.06.525.721 E srv    send_error: task id = 5, error: Context size has been exceeded.",
    ]
    assert failure(lines) == ""


def test_nothing_is_made_up():
    assert failure([]) == ""
    assert failure(["0.00.044.873 I srv  llama_server: listening on http://127.0.0.1:47881"]) == ""


@given(st.lists(st.text()))
def test_any_output_gives_one_line_at_most(lines: list[str]):
    assert "\n" not in failure([" ".join(line.splitlines()) for line in lines])


def test_c5_progress_mode_tells_fractions():
    seen = [found for line in (CAPTURES / "progress.log").read_text().splitlines() if (found := progress(line))]
    fractions = [found.fraction for found in seen if found.fraction is not None]
    assert fractions[:3] == [0.0, 0.0, pytest.approx(0.4195826)]
    assert fractions == sorted(fractions)
    assert seen[-1] == Progress(1.0, "ready")
    assert Progress(stage="warming up") in seen


def test_c5_a_stage_is_a_part_of_the_whole():
    line = 'cmd_child_to_router:state:{"state":"loading","payload":{"stages":["text_model","mmproj_model"],"current":"mmproj_model","value":0.5}}'
    assert progress(line) == Progress(0.75, "reading the vision projector")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"state":"sleeping"}', '{"state":"loading","payload":{"stages":[],"current":"x","value":1}}',
     '{"state":"loading","payload":{"stages":["x"],"current":"x","value":"a"}}'],
)  # fmt: skip
def test_a_progress_line_that_is_not_understood_is_no_progress(text: str):
    assert progress("cmd_child_to_router:state:" + text) is None


def test_most_lines_say_nothing_of_progress():
    assert progress("0.00.003.560 W srv  llama_server: -----------------") is None


def loaded(name: str) -> list[str]:
    return (CAPTURES / "loads" / f"{name}-b10434.log").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "buffers", "vocabulary", "occupied"),
    [
        ("smollm2-135m", 95.34 + 92.10 + 90.0 + 0.38 + 15.51, 49152, 332_055),
        ("gemma-3-270m", 213.91 + 235.16 + 12.0 + 30.0 + 2.0 + 20.77, 262144, 579_609),
    ],
)
def test_d1_what_a_real_load_says_it_took_is_what_it_occupied(name, buffers, vocabulary, occupied):
    told = held(loaded(name))
    assert told == int(buffers * MIB) + layout.program(vocabulary)
    assert told == pytest.approx(occupied * 1024, rel=0.05)  # the KiB that /proc/pid/smaps_rollup said, PSS


def test_d1_a_load_that_did_not_come_to_its_last_buffer_says_nothing():
    lines = loaded("smollm2-135m")
    last = next(index for index, line in enumerate(lines) if "compute buffer" in line)
    assert held(lines[:last]) is None
    assert held([]) is None


GPUS = """\
load_tensors:   CPU_Mapped model buffer size =   100.00 MiB
load_tensors:        CUDA0 model buffer size =  1000.00 MiB
load_tensors:        CUDA1 model buffer size =   900.00 MiB
load_tensors: RPC[10.0.0.2:50052] model buffer size =  5000.00 MiB
llama_context:  CUDA_Host  output buffer size =     0.50 MiB
llama_kv_cache:      CUDA0 KV buffer size =    64.00 MiB
llama_memory_recurrent:      CUDA1 RS buffer size =    32.00 MiB
sched_reserve:      CUDA0 compute buffer size =   300.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    20.00 MiB
sched_reserve:      CUDA0 compute buffer size =   200.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    20.00 MiB""".splitlines()


def test_d1_buffers_on_gpus_are_those_that_count_and_one_made_anew_counts_once():
    assert held(GPUS) == (1000 + 900 + 64 + 32 + 200) * MIB


def test_d1_a_draft_model_comes_on_top():
    draft = [line.replace("1000.00", "100.00") for line in GPUS if "CUDA0" in line]
    assert held([*GPUS, *draft]) == (1000 + 900 + 64 + 32 + 200 + 100 + 64 + 200) * MIB
