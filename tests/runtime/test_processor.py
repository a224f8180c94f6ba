from __future__ import annotations

from pathlib import Path

import pytest

from roundhouse.runtime import processor

X86 = "processor\t: 0\nflags\t\t: fpu avx2 amx_int8\nvmx flags\t: vnmi\n\nprocessor\t: 1\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.mark.parametrize(
    ("text", "flags"),
    [(X86, {"fpu", "avx2", "amx_int8"}), (ARM, {"fp", "asimd", "asimddp"}), ("", set()), (None, set())],
)
def test_flags_are_the_first_cores(text, flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(processor, "LIST", path)
    processor.flags.cache_clear()
    try:
        assert processor.flags() == flags
    finally:
        processor.flags.cache_clear()
