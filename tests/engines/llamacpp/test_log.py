import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Progress
from roundhouse.engines.llamacpp.log import failure, progress
from tests.engines.models import CAPTURES

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
