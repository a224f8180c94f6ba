"""The documentation agrees with the code: reference pages are fresh, nothing is left out, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from scripts import reference

from roundhouse import __version__
from roundhouse.api.admin import make_admin
from roundhouse.api.description import relayed
from roundhouse.api.routes import ROUTES
from roundhouse.app.doctor import CHECKS
from roundhouse.cli.root import app
from roundhouse.config.load import parse
from roundhouse.config.section import Section
from roundhouse.core.model import Fleet
from roundhouse.dialects import failures
from roundhouse.observe.metrics import Metrics, Snapshot
from roundhouse.ports import Reading

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
NOT_WRITTEN = {"id", "source", "warnings"}
"""Fields of configuration models that no file has."""


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def found_in_sources(pattern: str) -> set[str]:
    return {found for path in SOURCES for found in re.findall(pattern, path.read_text("utf-8"), re.MULTILINE)}


# --- fresh ---


def test_the_reference_is_what_the_code_says():
    assert list(reference.stale()) == [], "run: python scripts/reference.py"


def test_a_page_that_says_something_else_is_stale_and_so_is_a_missing_one(tmp_path):
    for name, make in reference.PAGES.items():
        (tmp_path / name).write_text(make(), "utf-8")
    assert reference.stale(tmp_path) == {}
    (tmp_path / "errors.md").write_text("nothing goes wrong\n", "utf-8")
    (tmp_path / "metrics.md").unlink()
    assert list(reference.stale(tmp_path)) == ["errors.md", "metrics.md"]


# --- complete ---


def rows_of(text: str, section: type[Section]) -> str | None:
    """The table whose first column is the keys of this section."""
    keys = [name for name in section.model_fields if name not in NOT_WRITTEN]
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        if re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == keys:
            return table
    return None


@pytest.mark.parametrize("section", Section.__subclasses__(), ids=lambda section: section.__name__)
def test_every_key_of_the_configuration_is_told_with_its_meaning(section):
    table = rows_of(page("reference/configuration.md"), section)
    assert table is not None
    assert not re.search(r"\|\s*\|$", table, re.MULTILINE), "a key without a meaning: give the field a docstring"


def test_every_metric_is_told():
    rendered = Metrics(snapshot=lambda: Snapshot(Fleet(), Reading({}, {}))).render().decode()
    names = set(re.findall(r"^# TYPE (roundhouse_\w+)", rendered, re.MULTILINE))
    assert len(names) > 15
    assert names == set(re.findall(r"^\| `(\w+)`", page("reference/metrics.md"), re.MULTILINE))


def test_metrics_are_told_with_their_labels():
    text = page("reference/metrics.md")
    assert "| `roundhouse_requests_total` | counter | `engine`, `key_class`, `model`, `status` |" in text
    assert "| `roundhouse_model_memory_measured_bytes` | gauge | `device`, `model` |" in text


def test_every_route_is_told():
    described = make_admin(None, __version__).openapi()["paths"]
    own = {f"{m.upper()} {path}" for path, methods in described.items() for m in methods if path not in relayed()}
    wanted = own | {f"POST {path}" for path in ROUTES}
    assert "POST /api/v1/models/{model}/load" in wanted
    assert wanted <= set(re.findall(r"^\| `([^`]+)`", page("reference/routes.md"), re.MULTILINE))


def commands(group, name="roundhouse"):
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


@pytest.mark.parametrize(("name", "command"), list(commands(typer.main.get_command(app))))
def test_every_flag_of_a_command_is_told_and_there_is_an_example(name, command):
    section = re.search(rf"^## {name}\b.*?(?=^## |\Z)", page("reference/cli.md"), re.MULTILINE | re.DOTALL)
    assert section is not None
    for option in command.params:
        assert option.help
        assert f"`{option.opts[0]}" in section[0] or f"`{option.name.upper()}`" in section[0]
    assert f"```sh\n{command.epilog.removeprefix('Example: ')}" in section[0]


def test_every_error_code_is_told():
    codes = found_in_sources(r'^    code(?:: str)? = "(\w+)"')
    codes |= {code for _, code in failures._BY_STATUS.values()} | set(failures._CODES.values())
    assert {"internal_error", "port_taken", "engine_timeout"} <= codes
    assert {code for code in codes if f"`{code}`" not in page("reference/errors.md")} == set()


def test_what_to_do_is_told_for_every_error_that_a_client_gets_and_every_check_of_the_doctor():
    reference, _, _ = page("reference/errors.md").partition("## Before it serves")
    codes = set(re.findall(r"^\| `(\w+)` \|", reference, re.MULTILINE)) - {"bad_configuration"}  # those end a command
    assert len(codes) > 20
    text = page("troubleshooting.md")
    assert {code for code in codes if f"`{code}`" not in text} == set()
    assert {check for check in CHECKS if f"| `{check}` |" not in text} == set()


def test_every_page_is_led_to_from_another():
    linked = {
        (origin.parent / link.partition("#")[0]).resolve()
        for origin in PAGES
        for link in links(origin.read_text("utf-8"))
    }
    assert {
        str(each.relative_to(ROOT)) for each in PAGES if each.parent != ROOT and each.resolve() not in linked
    } == set()


def test_every_header_of_ours_is_told():
    names = found_in_sources(r'b"(x-[a-z-]+)"')
    assert "x-roundhouse-tokens-per-s" in names
    text = page("status-and-performance.md").lower()
    assert {name for name in names if f"`{name}" not in text} == set()


def test_every_environment_variable_of_ours_is_told():
    names = found_in_sources(r"\b(ROUNDHOUSE_[A-Z_]+)")
    assert "ROUNDHOUSE_CONFIG" in names
    assert {name for name in names if f"`{name}`" not in page("troubleshooting.md")} == set()


# --- examples ---


def examples() -> list[tuple[str, str]]:
    texts = ((path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in PAGES)
    return [
        (name, block)
        for name, text in texts
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(("name", "text"), examples())
def test_every_example_of_a_configuration_is_right(name, text, tmp_path):
    home = {"HOME": str(tmp_path), "OTHER_SERVER_KEY": "secret"}
    assert parse(text, tmp_path / name, home).model_fields_set


def test_every_command_in_an_example_exists():
    said = {found for path in PAGES for found in re.findall(r"\broundhouse ([a-z]+)", path.read_text("utf-8"))}
    known = {name.split()[1] for name, _ in commands(typer.main.get_command(app))}
    blocks = [
        block
        for path in PAGES
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    used = {found for block in blocks for found in re.findall(r"^(?:\S*/)?roundhouse ([a-z]+)", block, re.MULTILINE)}
    assert known <= said
    assert used <= known


# --- links ---


def links(text: str) -> list[str]:
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def leads_nowhere(origin: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    file = (origin.parent / target) if target else origin
    return not file.exists() or (bool(anchor) and anchor not in anchors(file.read_text("utf-8")))


@pytest.mark.parametrize("origin", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_relative_link_leads_nowhere(origin):
    relative = [link for link in links(origin.read_text("utf-8")) if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if leads_nowhere(origin, link)] == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    origin = tmp_path / "page.md"
    origin.write_text("# A page\n[good](#a-page) [bad](#b) [gone](gone.md) `[code](c.md)`\n")
    assert links(origin.read_text()) == ["#a-page", "#b", "gone.md"]
    assert [leads_nowhere(origin, link) for link in ("#a-page", "#b", "gone.md")] == [False, True, True]
