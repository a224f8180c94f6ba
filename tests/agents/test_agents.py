"""Claude Code, Codex and aider, headless: each writes a file in a scratch repository through Roundhouse.

While the model is loading and when it is loaded; and interrupted in the middle of an answer, which has to end the answer at
the engine. A double answers (`agent_engine`), over a real Roundhouse: Anthropic's Messages, OpenAI's Responses and chats.
The programs are installed by scripts/agents.sh and told to ask nobody else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.agents import agent_engine
from tests.support.house import Place, Running
from tests.support.wire import Api

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".cache/agents"
PAGE = ROOT / "docs/compatibility-agents.md"
AGENTS = {"Claude Code": "Messages", "Codex CLI": "Responses", "aider": "chat completions"}
TRIES = ["edits a file while the model loads", "edits a file, loaded", "interrupted, the engine stops"]
LIMIT = 180.0

pytestmark = pytest.mark.skipif("ROUNDHOUSE_AGENTS" not in os.environ, reason="run it with `make test-agents`")


@pytest.fixture(scope="module")
def house():
    place = Place()
    record = place.folder / "agent.jsonl"
    command = f"{sys.executable} -S {agent_engine.__file__} --port ${{PORT}} --record {record}"
    model = {"engine": "openai", "command": command, "memory": "10MiB", "health": "/health"}
    place.write({"worker": model}, status={"every": "1s"})
    with Running(place):
        yield SimpleNamespace(port=place.port, api=Api(place.port), record=record)
    place.remove()


@pytest.fixture(scope="module")
def found():
    told: dict[tuple[str, str], bool] = {}
    yield told
    PAGE.write_text(page(told))


@pytest.fixture
def scratch(tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    for words in (
        ["init", "-q"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-mx"],
    ):
        subprocess.run(["git", *words], cwd=repository, check=True, timeout=30)
    return repository


def command(agent: str, port: int, repository: Path, prompt: str) -> tuple[list[str], dict[str, str]]:
    """How an agent is run once, and the variables it needs: all of its traffic goes to 127.0.0.1."""
    home, url = repository.parent / "home", f"http://127.0.0.1:{port}"
    home.mkdir(exist_ok=True)
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HTTPS_PROXY": "http://127.0.0.1:1"}
    env |= {"NO_PROXY": "127.0.0.1", "TERM": "dumb"}
    if agent == "Claude Code":
        env |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "any", "ANTHROPIC_MODEL": "worker"}
        env |= {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "worker", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        env |= {"DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1", "DISABLE_AUTOUPDATER": "1"}
        program = str(HOME / "node/node_modules/.bin/claude")
        return [program, "-p", prompt, "--permission-mode", "acceptEdits", "--allowedTools", "Write"], env
    if agent == "Codex CLI":
        (home / ".codex").mkdir(exist_ok=True)
        (home / ".codex/config.toml").write_text(
            'model = "worker"\nmodel_provider = "roundhouse"\ncheck_for_update_on_startup = false\n'
            f'[model_providers.roundhouse]\nname = "Roundhouse"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
            "[analytics]\nenabled = false\n"
        )
        program = str(HOME / "node/node_modules/.bin/codex")
        return [program, "exec", "--dangerously-bypass-approvals-and-sandbox", prompt], env
    env |= {"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": "any", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    quiet = [
        "--no-analytics",
        "--no-check-update",
        "--no-show-model-warnings",
        "--no-show-release-notes",
        "--no-pretty",
    ]
    words = [str(HOME / "python/bin/aider"), "--model", "openai/worker", "--edit-format", "diff", "--map-tokens", "0"]
    return [*words, "--yes-always", "--no-gitignore", *quiet, "--message", prompt, "written.txt"], env


def started(house, agent: str, repository: Path, prompt: str) -> subprocess.Popen[str]:
    words, env = command(agent, house.port, repository, prompt)
    if not Path(words[0]).exists():
        pytest.skip(f"{agent} is not installed (scripts/agents.sh says why)")
    return subprocess.Popen(
        words,
        cwd=repository,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def notes(house, what: str) -> int:
    lines = house.record.read_text().splitlines() if house.record.exists() else []
    return sum(json.loads(line)["what"] == what for line in lines)


def until(ready, process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + LIMIT
    while not ready():
        assert time.monotonic() < deadline, "it did not come"
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.05)


@pytest.mark.parametrize("state", ["loading", "loaded"])
@pytest.mark.parametrize("agent", AGENTS)
async def test_g3_an_agent_writes_a_file(house, found, scratch, agent, state):
    await house.api.post(f"/api/v1/models/worker/{'load' if state == 'loaded' else 'unload'}")
    starts = notes(house, "start")
    path = scratch / "written.txt"
    process = started(house, agent, scratch, f"Write one line into the file FILE={path} and nothing else.")
    said, _ = process.communicate(timeout=LIMIT)
    written = path.read_text() if path.exists() else None
    found[agent, TRIES[state == "loaded"]] = right = written == f"{agent_engine.LINE}\n" and process.returncode == 0
    print(f"{agent}, {state}: {process.returncode}, {written!r}")
    assert right, said[-4000:]
    assert notes(house, "start") == starts + (state == "loading"), "one load, and that by the agent"


@pytest.mark.parametrize("agent", AGENTS)
async def test_a4_an_agent_that_is_interrupted_ends_its_answer(house, found, scratch, agent):
    await house.api.post("/api/v1/models/worker/load")
    begun, left = notes(house, "dawdling"), notes(house, "left")
    process = started(house, agent, scratch, "DAWDLE")
    try:
        until(lambda: notes(house, "dawdling") > begun, process)
        os.killpg(process.pid, signal.SIGINT)
        until(lambda: notes(house, "left") > left)
        found[agent, TRIES[2]] = True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def versions() -> dict[str, str]:
    node = json.loads((ROOT / "tests/agents/package.json").read_text())["dependencies"]
    lines = (ROOT / "requirements/agents.in").read_text().splitlines()
    aider = next(line.partition("==")[2] for line in lines if line.startswith("aider-chat=="))
    return {
        "Claude Code": node["@anthropic-ai/claude-code"],
        "Codex CLI": node["@openai/codex"],
        "aider": aider,
    }


def page(found: dict[tuple[str, str], bool]) -> str:
    told = versions()
    lines = [
        "<!-- Written by `make test-agents`: run that instead of changing it. -->",
        "",
        "# Coding agents that were tried",
        "",
        f"On {time.strftime('%Y-%m-%d', time.gmtime())}, by `make test-agents`, headless, over a real Roundhouse.",
        "A double of an engine answers: models small enough for a test machine drive no agent. `–`: not tried.",
        "",
        "| | " + " | ".join(f"{agent} {told[agent]} ({api})" for agent, api in AGENTS.items()) + " |",
        "|---" * (len(AGENTS) + 1) + "|",
    ]
    for what in TRIES:
        marks = [found.get((agent, what)) for agent in AGENTS]
        lines.append(f"| {what} | " + " | ".join("–" if m is None else "yes" if m else "**no**" for m in marks) + " |")
    return "\n".join(lines) + "\n"
