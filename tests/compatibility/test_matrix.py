"""engine x API x feature (`docs/compatibility.md`): every cell is asked, and the page says what came of it.

`make compatibility` writes the page; in the default suite it is held to it.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.compatibility.features import FEATURES
from tests.compatibility.subjects import ENGINES, subjects
from tests.support.real_engine import real_build

pytestmark = pytest.mark.real
PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
CELLS = [(group, name) for group, features in FEATURES.items() for name in features]
HEAD = """\
<!-- Written by `make compatibility`: run that instead of changing it. -->

# What each engine can do here

Asked through Roundhouse on {day}, by `make compatibility`: llama.cpp is a real one ({build}) with tiny models; the others are doubles
made from what the real ones were seen to send ([engines](engines.md#tests-against-real-engines)), which tell what Roundhouse
does with them, and not what the engine's own sampler, templates or parsers can do: for those, the last group, only llama.cpp's column says much.
Tool calls of SGLang and vLLM are captured streams of the real ones, the call told twice, and its end set to `tool_calls` where the capture had reached its limit.

**yes**: asked as the client asks it. **translated**: the client's API is not the engine's; Roundhouse asks it in other words.
**estimated**: counted by Roundhouse, not the engine. **passed on**: the engine was seen to get it as it is; what it makes of it is its own affair."""


@pytest.fixture(scope="module")
def engines():
    with subjects() as found:
        yield found


@pytest.fixture(scope="module")
def cells():
    """What came of each cell; the page is written when all have been asked."""
    found: dict[tuple[str, str, str], str] = {}
    yield found
    if os.environ.get("ROUNDHOUSE_COMPATIBILITY") and len(found) == len(CELLS) * len(ENGINES):
        PAGE.write_text(page(found))


def page(cells: dict[tuple[str, str, str], str]) -> str:
    build = real_build()
    name = build.version if "xllamacpp" in build.version else f"llama-server, {build.version}"
    lines = [HEAD.format(day=datetime.now(UTC).date(), build=name)]
    for group, features in FEATURES.items():
        lines.append(f"\n## {group}\n\n| | {' | '.join(ENGINES.values())} |\n|---|{'---|' * len(ENGINES)}")
        lines += [f"| {name} | {' | '.join(cells[group, name, engine] for engine in ENGINES)} |" for name in features]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("group", "name"), CELLS)
async def test_every_cell(engines, cells, engine, group, name):
    found = str(await FEATURES[group][name](engines[engine]))
    cells[group, name, engine] = found
    if "ROUNDHOUSE_COMPATIBILITY" not in os.environ:
        assert found == written(PAGE.read_text())[group, name, engine], "run `make compatibility`"


def written(text: str) -> dict[tuple[str, str, str], str]:
    found = {}
    for section in text.split("\n## ")[1:]:
        group = section.partition("\n")[0]
        for line in section.splitlines():
            if (row := re.fullmatch(r"\| (\S.*?) \| (.*) \|", line)) and not line.startswith("| |"):
                told = zip(ENGINES, row[2].split(" | "), strict=True)
                found |= {(group, row[1], engine): cell for engine, cell in told}
    return found


@pytest.mark.skipif("ROUNDHOUSE_COMPATIBILITY" in os.environ, reason="the page is being written")
def test_the_page_has_every_cell_and_no_other():
    assert set(written(PAGE.read_text())) == {(*cell, engine) for cell in CELLS for engine in ENGINES}
