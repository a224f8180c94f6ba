"""Mutation testing of the core: changes one thing at a time and sees whether the tests notice.

    python scripts/mutants.py                      all of the core
    python scripts/mutants.py planner room -n 100  some modules, at most 100 mutants of each (spread evenly)

A copy of the source is changed in a temporary folder, never the working tree. Each mutant runs the example tests first
(fast), then the simulation. Exit code 1 if more than `--allowed` survive. A survivor is either a gap in the tests or a
change that makes no difference; the list says where to look.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
CORE = Path("src/roundhouse/core")
MODULES = (
    *("planner", "room", "memory", "turns", "shares", "habits", "keeping", "forecast", "margins", "tasks", "notes"),
    *("lifecycle", "waiting", "catalog", "reload"),
)
EXAMPLES = [
    f"tests/core/test_{name}.py"
    for name in (
        *("planner", "turns", "memory", "shares", "habits", "keeping", "forecast", "margins", "tasks", "lifecycle"),
        *("waiting", "catalog", "reload"),
    )
]
SIMULATION = ["tests/core/test_box_simulation.py", "tests/core/test_workloads.py"]
SECONDS_PER_RUN = 240

OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Pow: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change: the module's whole new source, and what was changed where."""

    module: str
    line: int
    what: str
    source: str


def mutants_of(module: str) -> list[Mutant]:
    """Every single change of a module that still is a program."""
    tree = ast.parse((ROOT / CORE / f"{module}.py").read_text())
    found: list[Mutant] = []
    skipped = _not_run(tree)
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for number, what in enumerate(_changes(node)):
            twin = copy.deepcopy(tree)
            target = next(n for at, n in enumerate(ast.walk(twin)) if at == place)
            _change(target, number)
            source = ast.unparse(ast.fix_missing_locations(twin))
            found.append(Mutant(module, getattr(node, "lineno", 0), what, source))
    return found


def _not_run(tree: ast.Module) -> set[int]:
    """Nodes whose change says nothing: annotations, imports for type checkers, asserts, docstrings, messages."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        roots: list[ast.AST] = []
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            roots = [node]
        elif isinstance(node, ast.AnnAssign):
            roots = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            roots = [*(a.annotation for a in node.args.args if a.annotation), *([node.returns] if node.returns else [])]
        elif isinstance(node, (ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)):
            roots = [node]
        skipped |= {id(inner) for root in roots for inner in ast.walk(root)}
    return skipped


def _changes(node: ast.AST) -> list[str]:
    """What can be changed at a node, in words; `_change` takes the place in this list."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OPPOSITES:
        return [f"{type(node.ops[0]).__name__} -> {OPPOSITES[type(node.ops[0])].__name__}"]
    if isinstance(node, (ast.BoolOp, ast.BinOp)) and type(node.op) in OPPOSITES:
        return [f"{type(node.op).__name__} -> {OPPOSITES[type(node.op)].__name__}"]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        return [f"{type(node.op).__name__} removed"]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return [f"{node.value} -> {not node.value}"]
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return [f"{node.value} -> {node.value + 1}"]
    if isinstance(node, (ast.If, ast.IfExp)):
        return ["condition -> True", "condition -> False"]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ["call removed"]
    if isinstance(node, ast.keyword) and node.arg is not None and ast.unparse(node.value) != "None":
        return [f"{node.arg}= -> None"]
    if isinstance(node, (ast.Continue, ast.Break)):
        return [f"{type(node).__name__} removed"]
    return []


def _change(node: ast.AST, number: int) -> None:
    if isinstance(node, ast.Compare):
        node.ops[0] = OPPOSITES[type(node.ops[0])]()  # type: ignore[call-overload]
    elif isinstance(node, (ast.BoolOp, ast.BinOp)):
        node.op = OPPOSITES[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1  # type: ignore[operator]
    elif isinstance(node, (ast.If, ast.IfExp)):
        node.test = ast.Constant(value=number == 0)
    elif isinstance(node, (ast.Expr, ast.keyword)):
        node.value = ast.Constant(value=None)
    else:
        node.__class__ = ast.Pass


class Workshop:
    """Private copies of what the tests need, one per worker."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            copy_of = folder / str(number)
            for part in ("src", "tests", "docs"):
                shutil.copytree(ROOT / part, copy_of / part, ignore=shutil.ignore_patterns("__pycache__", "captures"))
            shutil.copy(ROOT / "pyproject.toml", copy_of)
            self.folders.put(copy_of)

    def survives(self, mutant: Mutant) -> bool:
        """Whether no test notices."""
        folder = self.folders.get()
        target = folder / CORE / f"{mutant.module}.py"
        original = target.read_text()
        try:
            target.write_text(mutant.source)
            return _passes(folder, EXAMPLES) and _passes(folder, SIMULATION)
        finally:
            target.write_text(original)
            self.folders.put(folder)


def _passes(folder: Path, tests: list[str]) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["HYPOTHESIS_PROFILE"] = "mutants"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    try:
        done = subprocess.run(  # noqa: S603  # our own Python with our own arguments
            command, cwd=folder, env=environment, capture_output=True, timeout=SECONDS_PER_RUN, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=MODULES, choices=[*MODULES, []], metavar="MODULE")
    parser.add_argument("-n", "--most", type=int, default=10_000, help="most mutants of each module")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--allowed", type=int, default=10_000, help="most survivors before this fails")
    arguments = parser.parse_args()
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        workshop = Workshop(Path(folder), arguments.jobs)
        if not _passes(Path(folder) / "0", [*EXAMPLES, *SIMULATION]):
            _say("the tests fail without any mutant")
            return 2
        for module in arguments.modules:
            every = mutants_of(module)
            chosen = every[:: max(1, -(-len(every) // arguments.most))]
            alive: list[Mutant] = []
            for mutant, lives in zip(chosen, pool.map(workshop.survives, chosen), strict=True):
                if lives:
                    alive.append(mutant)
                    _say(f"  survived: {CORE}/{module}.py:{mutant.line}  {mutant.what}")
            survivors += alive
            _say(f"{module}: {len(chosen) - len(alive)} of {len(chosen)} killed")
    return int(len(survivors) > arguments.allowed)


if __name__ == "__main__":
    raise SystemExit(main())
