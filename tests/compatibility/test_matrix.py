"""engine x API x feature (`docs/compatibility.md`): every cell is asked, and the page says what came of it.

`make compatibility` writes the page; in the default suite it is held to it.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.compatibility.features import FEATURES, Subject
from tests.e2e.test_tabby import NEW
from tests.real.subject import double
from tests.real.test_answers import model as paged_model
from tests.support.gguf_files import write_tiny_chat, write_tiny_embedding
from tests.support.house import Place, Running, Scripted, free_port
from tests.support.real_engine import real_build
from tests.support.tabby_checkout import make_checkout, make_model
from tests.support.wire import Api

pytestmark = pytest.mark.real
PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
ENGINES = {
    "llamacpp": "llama.cpp, real",
    "sglang": "SGLang, double",
    "vllm": "vLLM, double",
    "tabbyapi": "TabbyAPI, double",
    "openai": "any other server, double",
}
EMBEDDING = {"llamacpp": "vectors", "openai": "openai"}
"""Models for embeddings; the doubles of the others have none."""
CELLS = [(group, name) for group, features in FEATURES.items() for name in features]
HEAD = """\
<!-- Written by `make compatibility`: run that instead of changing it. -->

# What each engine can do here

Asked through Roundhouse on {day}, by `make compatibility`: llama.cpp is a real one ({build}) with tiny models; the others are doubles
made from what the real ones were seen to send ([engines](engines.md#tests-against-real-engines)), which tell what Roundhouse
does with them, and not what the engine's own sampler, templates or parsers can do: for those, the last group, only llama.cpp's column says much.

**yes**: asked as the client asks it. **translated**: the client's API is not the engine's; Roundhouse asks it in other words.
**estimated**: counted by Roundhouse, not the engine. **passed on**: the engine gets it as it is; what it makes of it is its own affair."""


@pytest.fixture(scope="module")
def subjects():
    """A Roundhouse with a model of every engine; all fit."""
    place, build = Place(), real_build()
    folder = place.folder
    write_tiny_chat(folder / "llamacpp.gguf", "llamacpp")
    write_tiny_embedding(folder / "vectors.gguf")
    small = {"memory": "100MiB", "args": ["--threads", 1]}
    models = {
        "llamacpp": {"path": str(folder / "llamacpp.gguf"), "context": 1024, "slots": 2, **small},
        "vectors": {"path": str(folder / "vectors.gguf"), **small},
    }
    engines = {"llamacpp": {"binary": build.argv[0]}} if len(build.argv) == 1 else {}
    for name in ("sglang", "vllm"):
        subject = double(folder / name, name)
        models[name] = paged_model(subject, folder) | {"memory": "100MiB"}
        engines[name] = {"python": str(subject.python)}
    port = free_port()
    checkout = make_checkout(folder / "tabby", NEW, port=port)
    make_model(folder / "exl", "one-4bpw", "exl3")
    tabby = {"dir": str(checkout), "model_dir": str(folder / "exl"), "model_name": "one-4bpw"}
    models["tabbyapi"] = {"engine": "tabbyapi", "tabby": tabby, "port": port, "memory": "100MiB"}
    models["openai"] = Scripted(folder, "openai").config
    place.write(models, engines=engines, devices={"ram": "2GiB"})
    with Running(place):
        api = Api(place.port)
        yield {name: Subject(api, name, EMBEDDING.get(name)) for name in ENGINES}
    place.remove()


@pytest.fixture(scope="module")
def cells():
    """What came of each cell; the page is written when all have been asked."""
    found: dict[tuple[str, str, str], str] = {}
    yield found
    if os.environ.get("ROUNDHOUSE_COMPATIBILITY") and len(found) == len(CELLS) * len(ENGINES):
        PAGE.write_text(page(found))


def page(cells: dict[tuple[str, str, str], str]) -> str:
    argv = real_build().argv
    build = "llama-server" if len(argv) == 1 else "xllamacpp"
    lines = [HEAD.format(day=datetime.now(UTC).date(), build=build)]
    for group, features in FEATURES.items():
        lines.append(f"\n## {group}\n\n| | {' | '.join(ENGINES.values())} |\n|---|{'---|' * len(ENGINES)}")
        lines += [f"| {name} | {' | '.join(cells[group, name, engine] for engine in ENGINES)} |" for name in features]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("group", "name"), CELLS)
async def test_every_cell(subjects, cells, engine, group, name):
    found = str(await FEATURES[group][name](subjects[engine]))
    if group == "The engine's" and engine != "llamacpp":
        found = "passed on"  # what a double makes of it says nothing of the engine
    cells[group, name, engine] = found
    if "ROUNDHOUSE_COMPATIBILITY" not in os.environ:
        assert found == written(PAGE.read_text())[group, name, engine], "run `make compatibility`"


def written(text: str) -> dict[tuple[str, str, str], str]:
    found = {}
    for section in text.split("\n## ")[1:]:
        group = section.partition("\n")[0]
        for line in section.splitlines():
            if (row := re.fullmatch(r"\| (\S.*?) \| (.*) \|", line)) and not line.startswith("| |"):
                found |= {
                    (group, row[1], engine): cell for engine, cell in zip(ENGINES, row[2].split(" | "), strict=True)
                }
    return found


@pytest.mark.skipif("ROUNDHOUSE_COMPATIBILITY" in os.environ, reason="the page is being written")
def test_the_page_has_every_cell_and_no_other():
    assert set(written(PAGE.read_text())) == {(*cell, engine) for cell in CELLS for engine in ENGINES}
