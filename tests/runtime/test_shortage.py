"""Which ends are ones for want of memory (spec D10)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from roundhouse.engines import ENGINES
from roundhouse.ports import Exit
from roundhouse.runtime import shortage
from roundhouse.runtime.life import Life
from roundhouse.runtime.shortage import caused, kills


def life(ended=None, *, ready=False, lines=(), loads=None, engine="llamacpp", kills=0) -> Life:
    runnable = SimpleNamespace(engine=ENGINES[engine], loads=loads)
    handle = SimpleNamespace(tail=lambda _count: list(lines))
    return Life(runnable, 0.0, handle=handle, ready=ready, ended=ended, kills=kills)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def kernel(monkeypatch, tmp_path):
    """A kernel that has ended three."""
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 12\noom_kill 3\n")
    monkeypatch.setattr(shortage.kills, "__defaults__", (vmstat,))
    return vmstat


@pytest.mark.parametrize(
    ("ended", "ready", "before", "short"),
    [
        (Exit(-9), False, 3, True),
        (Exit(137), False, 3, True),
        (Exit(-9), True, 3, False),
        (Exit(-9), True, 2, True),
        (Exit(-9, by_us=True), False, 2, False),
        (Exit(-9, starved=True), True, 3, True),
        (Exit(-11), False, 2, False),
        (Exit(1), False, 2, False),
        (None, False, 2, False),
    ],
)
def test_d10_the_kernels_hand(ended, ready, before, short):
    assert caused(life(ended, ready=ready, kills=before), "it was killed by signal 9") is short


def test_d10_the_engines_words():
    words = ["E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 6039797760"]
    assert caused(life(Exit(1), lines=words), "x")
    assert not caused(life(Exit(1), lines=["E srv load_model: failed to open GGUF file"]), "x")


def test_d10_of_a_process_that_stays_only_the_reason_counts():
    old = ["RuntimeError: Insufficient VRAM for model and cache"]
    reason = "not enough GPU memory (Insufficient VRAM for model and cache): give it a smaller `max_seq_len`"
    assert not caused(life(engine="tabbyapi", loads=object(), lines=old), "TabbyAPI says: no such file")
    assert caused(life(engine="tabbyapi", loads=object()), reason)


def test_an_engine_that_never_started():
    never = life()
    never.handle = None
    assert caused(never, "OSError: [Errno 12] Cannot allocate memory: failed to allocate")
    assert not caused(never, "there is no llama-server")


def test_the_kernels_count(kernel):
    assert kills() == 3
    kernel.write_text("nr_free_pages 12\n")
    assert kills() == 0
    kernel.unlink()
    assert kills() == 0
