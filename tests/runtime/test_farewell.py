"""`stop_command`: what ends engines in containers."""

from __future__ import annotations

import sys

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.runtime import farewell


async def test_it_runs_with_the_models_environment(tmp_path):
    file = tmp_path / "said"
    code = "import os, pathlib; pathlib.Path(os.environ['FILE']).write_text('stopped')"
    await farewell.run([sys.executable, "-c", code], {"FILE": str(file)}, 30.0)
    assert file.read_text() == "stopped"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nowhere/docker", "stop", "x"], "can't be run: .*No such file"),
        ([sys.executable, "-c", "print('no such container'); raise SystemExit(1)"], "exit code 1: no such container"),
        ([sys.executable, "-c", "raise SystemExit(2)"], "exit code 2: it said nothing"),
    ],
)
async def test_what_went_wrong_is_told(words, said):
    with pytest.raises(LoadFailed, match=said):
        await farewell.run(words, {}, 30.0)


async def test_one_that_hangs_is_ended(tmp_path):
    with pytest.raises(LoadFailed, match=r"not done after 0\.2 s"):
        await farewell.run([sys.executable, "-c", "import time; time.sleep(600)"], {}, 0.2)
