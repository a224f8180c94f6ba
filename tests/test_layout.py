"""How the repository is kept: tests lie where one looks for them, files stay small, modules say what they are for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "roundhouse"
MODULES = sorted(SOURCE.rglob("*.py"))
PROGRAMS = [*MODULES, *sorted((ROOT / "scripts").glob("*.py")), *sorted((ROOT / "bench").rglob("*.py"))]
FOLDERS = (".ci", "bench", "docs", "requirements", "scripts", "src", "tests")
MOST_LINES = 400

WHOLE = "tests/e2e: what it does shows in requests to a whole Roundhouse, with engines, only"
PLANNER = "tests/core/test_planner.py and the simulation of a box: parts of the one function `step`"
LOADER = "tests/config/test_load.py: told as problems of a file"
NO_LOGIC = "values only, nothing that could be wrong by itself"

TESTED_ELSEWHERE = {
    "__main__.py": "tests/e2e and tests/cli run it",
    "errors.py": NO_LOGIC,
    "ports.py": NO_LOGIC,
    "api/admin.py": "tests/e2e/test_operators.py",
    "api/client.py": WHOLE,
    "api/dashboard.py": "tests/e2e/test_dashboard.py",
    "api/key_routes.py": "tests/e2e/test_keys.py",
    "api/media.py": "tests/e2e/test_media.py",
    "api/reload.py": "tests/e2e/test_reload.py",
    "app/reload.py": "tests/e2e/test_reload.py",
    "app/lineup.py": "tests/e2e/test_reload.py",
    "app/wishes.py": "tests/e2e/test_operators.py",
    "core/records.py": "tests/core/test_planner.py",
    "app/keyring.py": "tests/cli/test_keys.py",
    "app/listing.py": "tests/e2e/test_requests.py",
    "runtime/desk.py": "tests/runtime/test_sessions.py",
    "api/gateway.py": WHOLE,
    "api/llamacpp_router.py": "tests/e2e/test_passthrough.py",
    "api/passthrough.py": "tests/e2e/test_passthrough.py",
    "api/websocket.py": "tests/e2e/test_websockets.py",
    "runtime/websocket.py": "tests/e2e/test_websockets.py",
    "api/ollama.py": "tests/e2e/test_ollama.py",
    "api/responses.py": "tests/e2e/test_responses.py",
    "app/apis.py": "tests/e2e: test_ollama.py, test_anthropic.py, test_responses.py",
    "dialects/anthropic_request.py": "tests/dialects/test_anthropic.py",
    "dialects/responses_request.py": "tests/dialects/test_responses.py",
    "api/record.py": NO_LOGIC,
    "api/reply.py": WHOLE,
    "api/router.py": WHOLE,
    "api/routes.py": NO_LOGIC,
    "api/server.py": "tests/e2e/test_requests.py: limits of heads; tests/e2e/test_life.py: its end",
    "api/streaming.py": "tests/e2e/test_streams.py",
    "api/whole.py": "tests/e2e/test_requests.py",
    "api/work.py": WHOLE,
    "app/adoption.py": "tests/e2e/test_life.py; units: tests/e2e/test_original_setup.py",
    "app/doctor/finding.py": NO_LOGIC,
    "app/dashboard.py": "tests/e2e/test_dashboard.py",
    "app/inhand.py": "tests/e2e/test_cancel.py and tests/e2e/test_dashboard.py",
    "app/hold.py": "tests/e2e/test_life.py",
    "app/house.py": WHOLE,
    "app/hub/problems.py": NO_LOGIC,
    "app/hub/source.py": "tests/cli/test_pull.py",
    "app/install/problems.py": NO_LOGIC,
    "app/install/service.py": "tests/e2e/test_service.py",
    "app/install/systemctl.py": "tests/e2e/test_service.py",
    "app/launching.py": WHOLE,
    "app/output.py": "tests/e2e/test_operators.py",
    "app/programs.py": "tests/cli/test_check.py, tests/real",
    "api/captures.py": "tests/e2e/test_captures.py",
    "cli/captures.py": "tests/e2e/test_captures.py",
    "config/captures.py": "tests/e2e/test_captures.py",
    "config/section.py": NO_LOGIC,
    "api/why.py": "tests/e2e/test_why.py",
    "app/reasons.py": "tests/e2e/test_why.py",
    "app/serve.py": "tests/e2e/test_life.py",
    "app/sockets.py": "tests/e2e/test_life.py: inherited ones; tests/e2e/test_faults.py: a taken port",
    "app/swaps.py": "tests/e2e/test_swap_report.py",
    "cli/matter.py": "tests/cli/test_simulate.py",
    "cli/options.py": NO_LOGIC,
    "cli/preview.py": "tests/cli/test_check.py",
    "cli/screen.py": "tests/cli: the commands that print with it",
    "cli/simulated.py": "tests/cli/test_simulate.py",
    "cli/why.py": "tests/e2e/test_why.py",
    "cli/telling.py": "tests/cli/test_chat.py",
    "config/checks.py": LOADER,
    "config/fields.py": "tests/config/test_models.py: the fields of those models",
    "config/problems.py": LOADER,
    "config/wording.py": LOADER,
    "core/model.py": NO_LOGIC,
    "core/notes.py": PLANNER,
    "core/obstacles.py": "tests/core/test_chronicle.py",
    "core/room.py": PLANNER,
    "demo/assets.py": "tests/demo/test_cache.py",
    "demo/config.py": "tests/demo/test_run.py: the loader reads it",
    "demo/pins.py": NO_LOGIC,
    "demo/problems.py": NO_LOGIC,
    "dialects/translation.py": NO_LOGIC,
    "engines/llamacpp/profiles.py": "tests/engines/llamacpp/test_llamacpp.py",
    "engines/trades.py": "tests/engines: vllm/test_flags.py, sglang/test_flags.py",
    "formats/errors.py": NO_LOGIC,
    "formats/gguf_header.py": "tests/formats/test_gguf.py",
    "launchers/handle.py": "tests/launchers/test_process.py",
    "runtime/life.py": NO_LOGIC,
    "runtime/loading.py": "tests/e2e/test_faults.py: loads that go wrong in each way",
    "runtime/movement.py": "tests/e2e/test_faults.py: a load that stands still",
    "runtime/processes.py": "tests/runtime/devices/test_ram.py",
    "runtime/tasks.py": WHOLE,
}
"""Modules without a test file of their own, each with the place where it is tested."""

LONG = {
    "src/roundhouse/core/model.py": "the vocabulary of the core; apart it would be read together all the same",
    "src/roundhouse/launchers/keeper.py": "runs isolated from our packages, so it is one file",
    "src/roundhouse/ports.py": "the words between engines, launchers and runtime, which are read together too",
    "src/roundhouse/runtime/upstream.py": "one HTTP client's protocol, the only file that knows its parser",
}
"""Files that are longer than a file should be, with the reason."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def twin(module: Path) -> Path:
    place = module.relative_to(SOURCE)
    return ROOT / "tests" / place.parent / f"test_{place.name}"


def test_every_module_has_tests_where_one_looks_for_them():
    alone = {m.relative_to(SOURCE).as_posix() for m in MODULES if m.name != "__init__.py" and not twin(m).exists()}
    assert alone - TESTED_ELSEWHERE.keys() == set(), "add the test file, or say here where it is tested"
    assert TESTED_ELSEWHERE.keys() - alone == set(), "these are gone or have a test file now: remove them here"


def test_where_modules_are_said_to_be_tested_there_is_something():
    named = {place for reason in TESTED_ELSEWHERE.values() for place in re.findall(r"tests/[\w/.]*\w", reason)}
    assert {place for place in named if not (ROOT / place).exists()} == set()


@pytest.mark.parametrize("path", PROGRAMS, ids=relative)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_no_file_is_too_long():
    long = {relative(path) for path in PROGRAMS if len(path.read_text("utf-8").splitlines()) > MOST_LINES}
    assert long == LONG.keys()


def files() -> list[Path]:
    """What is in the repository, without asking git, which a package of the sources does not have."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return found


# Put together here, so that this file does not hold what it looks for.
SOMEBODYS_MACHINE = re.compile(
    "|".join(
        (
            r"(?<![\w.])/" + r"work/",
            r"\.\./" + r"shared\b",
            r"(?<!\w)\.library" + r"/",
            r"/" + r"tmp/dl\b",
            r"/" + r"home/(?!me\b|user\b|you\b|someone\b|ann\b)\w+/",
            r"--(?:extra-)?index" + r"-url\b",
            r"https?://(?!host\.docker\.)[\w.-]+\.(?:internal|intranet|corp)\b",
            r"artifac" + r"tory|" + r"jfr" + r"og",
        )
    )
)


def test_no_file_names_a_machine_or_an_internal_host():
    found = {}
    for path in files():
        text = path.read_bytes().decode("utf-8", "replace")
        if hit := SOMEBODYS_MACHINE.search(text):
            found[relative(path)] = hit[0]
    assert found == {}


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("open('/" + "work/main/x')", True),
        ("see ../" + "shared/spec.md", True),
        ("--index" + "-url http://x", True),
        ("https://pypi.c" + "orp/simple", True),
        ("models at /srv/work/models", False),
        ("http://host.docker.internal:8002/v1", False),
    ],
)
def test_what_counts_as_a_machines_own(text, hit):
    assert bool(SOMEBODYS_MACHINE.search(text)) is hit
