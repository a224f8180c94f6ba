"""An interpreter in which `sglang` and `vllm` are our doubles: a virtual environment with a double as its only package.

`make_python` makes one; it can be named in `engines.sglang.python`, on PATH, or in a start script. `Doubled` is a model
that runs under one. Whatever else the interpreter is asked (`-c`, `--version`, importlib.metadata) it answers as Python.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.house import Scripted

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent
MODULES = {"sglang": "sglang.launch_server", "vllm": "vllm.entrypoints.openai.api_server"}
VERSIONS = {"sglang": "0.5.23", "vllm": "0.32.0"}


def make_python(folder: Path, engine: str, **behaviour: Any) -> Path:
    """Makes `folder` such an environment and returns its interpreter.

    Args:
        folder: where; made, or written over.
        engine: sglang or vllm.
        behaviour: fields of `double.Behaviour`, for all that is started by it.
    """
    version = str(behaviour.get("version") or VERSIONS[engine])
    site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    *packages, module = MODULES[engine].split(".")
    package = site.joinpath(*packages)
    package.mkdir(parents=True, exist_ok=True)
    for depth in range(len(packages)):
        (site.joinpath(*packages[: depth + 1]) / "__init__.py").write_text(f'__version__ = "{version}"\n')
    words = (f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n", f"from tests.support.{engine}_double import main\n")
    (package / f"{module}.py").write_text("".join((*words, "main(sys.argv[1:])\n")))
    facts = site / f"{engine}-{version}.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {engine}\nVersion: {version}\n")
    (folder / "behaviour.json").write_text(json.dumps(behaviour, default=str))
    base = Path(sys._base_executable)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    python = folder / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.unlink(missing_ok=True)
    python.symlink_to(base)
    return python


def write_script(file: Path, python: Path, engine: str, *words: str) -> Path:
    """A start script as people write them: the engine is a child of its shell."""
    flags = " ".join(words)
    file.write_text(f"#!/bin/bash\n{python} -m {MODULES[engine]} {flags}\n")
    file.chmod(0o755)
    return file


class Doubled(Scripted):
    """A model run by a double: its configuration, and what its engines wrote down."""

    def __init__(self, folder: Path, name: str, engine: str, config: Mapping[str, Any], **behaviour: Any) -> None:
        self.name = name
        self.record = folder / f"{name}.jsonl"
        told = json.dumps({"record": str(self.record), **behaviour}, default=str)
        env = {"DOUBLE_BEHAVIOUR": told.replace("$", "$$")}
        self.config = {"engine": engine, "memory": "64MiB", **config, "env": env}
