"""Engines are packages of this Python made for the test; interpreters are scripts around it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.ports import Build
from roundhouse.runtime import interpreters
from roundhouse.runtime.interpreters import find, find_tabby, interpreter_of, options_in
from tests.engines.models import CAPTURES

HELP = "usage: serve [-h] [--model MODEL]\n\noptions:\n  --model MODEL, --path MODEL  see --nothing\n"


class Site:
    """A folder of packages, and an interpreter that has them and keeps a list of what it was asked to run."""

    def __init__(self, folder: Path) -> None:
        self.packages = folder / "packages"
        self.packages.mkdir(parents=True)
        self.runs = folder / "runs"
        self.python = folder / "bin" / "python"
        self.python.parent.mkdir()
        self.script(
            self.python,
            f'#!/bin/sh\necho "$1 $2 $4" >> {self.runs}\nexport PYTHONPATH={self.packages}\nexec {sys.executable} "$@"\n',
        )

    def script(self, path: Path, text: str) -> Path:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def engine(self, body: str = f"print({HELP!r})", distribution: str = "fastserve", version: str = "1.2") -> None:
        package = self.packages / "fastserve"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "launch.py").write_text(body)
        (package / "needs_nothing.py").write_text("")
        info = self.packages / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "top_level.txt").write_text("fastserve\n")
        (info / "RECORD").write_text("fastserve/__init__.py,,\nfastserve/launch.py,,\n")

    def asked_for_help(self) -> int:
        return self.runs.read_text().count("-m fastserve.launch")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


async def found(site: Site | None = None, program: str | None = None, cache: Path | None = None) -> Build:
    return await find("fastserve", "fastserve.launch", program, str(site.python) if site else None, cache)


async def test_c2_the_configured_interpreter_with_version_and_options(site: Site):
    site.engine()
    argv = (str(site.python), "-m", "fastserve.launch")
    assert await found(site) == Build(argv, "1.2", frozenset({"-h", "--model", "--path"}))


async def test_the_distribution_may_have_another_name(site: Site):
    site.engine(distribution="fastserve-cpu", version="0.32.0")
    assert (await found(site)).version == "0.32.0"


async def test_a_package_of_no_distribution_is_found_without_a_version(site: Site):
    site.engine()
    for folder in site.packages.glob("*.dist-info"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert (await found(site)).version == ""


async def test_the_configured_one_is_the_only_one_tried(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site.engine()
    site.script(tmp_path / "bin" / "fastserve", f"#!{site.python}\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(LoadFailed, match=r"python \(set in the configuration\) has no package fastserve") as caught:
        await find("fastserve", "fastserve.launch", "fastserve", sys.executable)
    assert str(site.python) not in caught.value.message


async def test_c2_the_console_script_on_path_tells_its_interpreter(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site.engine()
    site.script(tmp_path / "bin" / "fastserve", f"#!{site.python}\nimport fastserve\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert (await found(program="fastserve")).argv == (str(site.python), "-m", "fastserve.launch")


async def test_c2_this_python_is_the_last(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site.engine()
    empty = Site(tmp_path / "empty")
    empty.script(tmp_path / "bin" / "fastserve", f"#!{empty.python}\nimport fastserve\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(sys, "executable", str(site.python))
    assert (await found(program="fastserve")).argv[0] == str(site.python)


async def test_nothing_found_says_what_was_tried_and_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadFailed) as caught:
        await find("vllm", "fastserve.launch", "fastserve")
    assert f"{sys.executable} (this Python) has no package fastserve" in caught.value.message
    assert "pip install vllm" in caught.value.message
    assert "`engines.vllm.python`" in caught.value.message


async def test_a_configured_program_that_is_not_there_is_named():
    with pytest.raises(LoadFailed, match="/nowhere/python is not a program that can be run"):
        await find("sglang", "sglang.launch_server", "sglang", "/nowhere/python")


async def test_an_interpreter_that_fails_is_told_of(site: Site):
    broken = site.script(site.python.parent / "broken", "#!/bin/sh\necho no luck\nexit 3\n")
    with pytest.raises(LoadFailed, match=r"broken .* can't be asked: it ended with exit code 3: no luck"):
        await find("fastserve", "fastserve.launch", None, str(broken))


async def test_a_folder_of_that_name_where_we_run_is_not_taken_for_the_package(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "here" / "fastserve").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(LoadFailed, match="has no package fastserve"):
        await found(site)


async def test_help_is_asked_for_once_while_the_installation_is_the_same(site: Site, tmp_path: Path):
    site.engine()
    cache = tmp_path / "state" / "builds.json"
    first = await found(site, cache=cache)
    assert await found(site, cache=cache) == first
    assert site.asked_for_help() == 1
    next(site.packages.glob("*.dist-info/METADATA")).write_text("Name: fastserve\nVersion: 1.2.1\n")
    assert (await found(site, cache=cache)).version == "1.2.1"
    assert site.asked_for_help() == 2


async def test_without_help_it_is_taken_for_the_newest_and_asked_again(site: Site, tmp_path: Path):
    site.engine("import module_that_is_missing")
    cache = tmp_path / "builds.json"
    for times in (1, 2):
        assert await found(site, cache=cache) == Build((str(site.python), "-m", "fastserve.launch"), "1.2")
        assert site.asked_for_help() == times


async def test_help_that_never_comes_is_given_up_and_ended(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pid = tmp_path / "pid"
    site.engine(f"import os, signal\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\nsignal.pause()")
    monkeypatch.setattr(interpreters, "HELP_LIMIT", 1.0)
    assert (await found(site)).flags == frozenset()
    if pid.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("#!/opt/x/bin/python3.11\nimport x", "/opt/x/bin/python3.11"),
        ("#!/opt/x/bin/python -I\nimport x", "/opt/x/bin/python"),
        ("#!/bin/sh\n'''exec' \"/a path/bin/python\" \"$0\" \"$@\"\n' '''\nimport x", "/a path/bin/python"),
        ("#!/bin/sh\n'''exec' /long/bin/python3 \"$0\" \"$@\"\n' '''\nimport x", "/long/bin/python3"),
        ("#!/usr/bin/env nothing-of-this-name\n", None),
        ("#!/bin/sh\nexec something\n", None),
        ("\x7fELF", None),
        ("", None),
    ],
)
def test_the_interpreter_of_a_console_script(tmp_path: Path, text: str, python: str | None):
    script = tmp_path / "serve"
    script.write_text(text)
    assert interpreter_of(script) == python


def test_env_is_looked_up_and_a_program_has_its_python_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent))
    script = tmp_path / "serve"
    script.write_text("#!/usr/bin/env -S python -u\n")
    assert interpreter_of(script) == str(python)
    (python.parent / "serve").write_bytes(b"\x7fELF\x00")
    script.unlink()
    script.symlink_to(python.parent / "serve")
    assert interpreter_of(script) == str(python)
    assert interpreter_of(tmp_path / "missing") is None


def test_options_of_real_engines():
    sglang = options_in((CAPTURES.parent / "sglang" / "help-0.5.23.txt").read_text("utf-8"))
    assert {
        "--model-path",
        "--tp-size",
        "--tensor-parallel-size",
        "--max-total-tokens",
        "--disable-cuda-graph",
    } <= sglang
    assert "--attn-dp-size" not in sglang  # only named in an explanation
    vllm = options_in((CAPTURES.parent / "vllm" / "help-0.32.0.txt").read_text("utf-8"))
    assert {"--kv-cache-memory-bytes", "--no-enforce-eager", "--shutdown-timeout", "--runner"} <= vllm
    assert options_in("no help at all") == frozenset()


def checkout(folder: Path, *files: str) -> Path:
    for name in ("main.py", *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch(mode=0o755)
    return folder


def test_c2_tabbyapi_runs_with_the_python_of_its_checkout(tmp_path: Path):
    folder = checkout(tmp_path / "tabby", "venv/bin/python", ".venv/bin/python")
    assert find_tabby(folder) == Build((f"{folder}/venv/bin/python",))
    (folder / "venv/bin/python").unlink()
    assert find_tabby(folder) == Build((f"{folder}/.venv/bin/python",))


def test_c2_else_with_python3_on_path_and_the_configured_one_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bin_ = tmp_path / "bin"
    for name in ("python3", "mine"):
        checkout(bin_, name)
    monkeypatch.setenv("PATH", str(bin_))
    folder = checkout(tmp_path / "tabby")
    assert find_tabby(folder) == Build((f"{bin_}/python3",))
    checkout(folder, "venv/bin/python")
    assert find_tabby(folder, f"{bin_}/mine") == Build((f"{bin_}/mine",))


def test_tabbyapi_that_is_not_there_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(LoadFailed, match=r"no TabbyAPI in .*: main.py is not there"):
        find_tabby(tmp_path)
    folder = checkout(tmp_path / "tabby")
    with pytest.raises(LoadFailed, match="/nowhere/python is not a program that can be run"):
        find_tabby(folder, "/nowhere/python")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadFailed, match="no Python for TabbyAPI"):
        find_tabby(folder)
