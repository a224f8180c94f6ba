"""A machine with NVIDIA GPUs that are lines of a text file: compiles `fake_nvml.c` and writes what it reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = Path(__file__).with_name("fake_nvml.c")


class FakeGpus:
    """The library in a folder, and its file of lines (see `fake_nvml.c`)."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gpus"
        self.library = folder / "lib"
        self.library.mkdir()
        target = self.library / "libnvidia-ml.so.1"
        words = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(target), str(SOURCE)]
        subprocess.run(words, check=True)

    def says(self, *lines: str) -> None:
        """Replaces what it tells, at once for whoever reads it."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.rename(self.file)

    def add(self, line: str) -> None:
        """One line more."""
        with self.file.open("a") as file:
            file.write(f"{line}\n")

    @property
    def environ(self) -> Mapping[str, str]:
        """What leads a process to it. The dynamic linker looks at the path when a process starts."""
        path = os.environ.get("LD_LIBRARY_PATH")
        return {
            "LD_LIBRARY_PATH": f"{self.library}:{path}" if path else str(self.library),
            "FAKE_NVML": str(self.file),
        }


def fake_gpus(folder: Path) -> FakeGpus:
    """Skips the test where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not here to compile the stand-in of NVIDIA's library")
    return FakeGpus(folder)
