"""Engines' programs, and whether their GPU code fits: with stand-ins of nvidia-smi, cuobjdump and PyTorch."""

from __future__ import annotations

import pytest

from roundhouse.app.doctor import builds
from roundhouse.app.doctor.builds import check
from roundhouse.errors import LoadFailed
from roundhouse.ports import Build
from tests.app.doctor.conftest import told

BLACKWELL = "echo '00000000:01:00.0, GPU-a, RTX PRO 6000, 575, 12.0, 97887, 0'"
MODEL = {"m": {"path": "/none.gguf", "engine": "llamacpp"}}


@pytest.fixture
def engine(box, monkeypatch):
    """Makes the search find a program; gives the box."""

    def made(reason=None, gpu=BLACKWELL, name="llama-server", text="exit 0"):
        program = box.program(name, text)

        async def build_of(*_):
            if reason:
                raise LoadFailed(reason)
            return Build((str(program),), "b9999", frozenset({"-m"}))

        monkeypatch.setattr(builds.programs, "build_of", build_of)
        if gpu:
            box.program("nvidia-smi", gpu)
        return box

    return made


def test_g4_version_and_flags_of_the_program(engine):
    (found,) = told(check(engine(gpu=None).visit(MODEL)))
    assert "llama-server: b9999; 1 flags known" in found


def test_g4_no_program_is_told_in_words(engine):
    (found,) = told(check(engine("no working program for engine llamacpp").visit(MODEL)), "error")
    assert "no working program" in found
    assert "engines.llamacpp" in found


@pytest.mark.parametrize(
    ("listing", "severity", "words"),
    [
        ("ELF file 1: a.sm_120.cubin", "ok", "is for gpu0"),
        ("ELF file 1: a.sm_90.cubin", "error", "DCMAKE_CUDA_ARCHITECTURES=120"),
        ("ELF file 1: a.sm_90.cubin PTX file 1: a.compute_90.ptx", "warning", "compiled anew"),
        ("nothing", "note", "No GPU code was found"),
    ],
)
def test_g4_the_builds_architectures_against_the_gpus(engine, listing, severity, words):
    box = engine()
    box.program("cuobjdump", f"echo '{listing}'")
    assert words in told(check(box.visit(MODEL)), severity)[-1]


def test_g4_the_library_beside_the_program_counts(engine):
    box = engine()
    (box.bin / "libggml-cuda.so.0").touch()
    box.program("cuobjdump", 'for last; do :; done; case "$last" in *libggml-cuda*) echo x.sm_120.cubin;; esac')
    assert "sm_120" in told(check(box.visit(MODEL)), "ok")[-1]


def test_without_the_tool_it_is_not_known(engine):
    assert "cuobjdump" in told(check(engine().visit(MODEL)), "note")[0]


def test_g4_pytorch_is_asked_by_the_engines_own_interpreter(engine, monkeypatch):
    box = engine(name="python3", text="echo 2.9.0 12.9 sm_80 sm_90")
    monkeypatch.setattr(type(builds.specs.engine_of(box.visit(MODEL).engines[0])), "module", "sglang.launch_server")
    (found,) = told(check(box.visit(MODEL)), "error")
    assert "sm_80, sm_90" in found
    assert "PyTorch" in found


def test_a_pytorch_that_is_not_there(engine, monkeypatch):
    box = engine(name="python3", text="echo \"No module named 'torch'\"; exit 1")
    monkeypatch.setattr(type(builds.specs.engine_of(box.visit(MODEL).engines[0])), "module", "sglang.launch_server")
    assert "No module named 'torch'" in told(check(box.visit(MODEL)), "note")[0]


def test_what_is_not_ours_to_start_is_not_looked_for(engine):
    script = {"script": "/s", "engine": "llamacpp", "port": 1}
    assert list(check(engine("none").visit({"a": {"url": "http://127.0.0.1:9/v1"}, "b": script}))) == []
