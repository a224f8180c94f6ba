"""The Grafana dashboard asks for metrics and labels that there are, in PromQL that Prometheus takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BOARD = json.loads((ROOT / "deploy" / "grafana" / "roundhouse.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
QUERIES = [
    (panel["title"], target["expr"], target["legendFormat"])
    for panel in BOARD["panels"]
    for target in panel.get("targets", ())
]
OF_SCRAPES = {"instance", "job"}
FUNCTIONS = {"sum", "rate", "increase", "max", "histogram_quantile", "vector"}


def known() -> dict[str, set[str]]:
    """Labels by name of a sample, as the reference page has them (which is held to the code)."""
    found = {}
    for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", PAGE, re.MULTILINE):
        own = set(re.findall(r"`(\w+)`", labels)) | OF_SCRAPES
        if kind == "histogram":
            found |= {f"{name}_sum": own, f"{name}_count": own, f"{name}_bucket": own | {"le"}}
        else:
            found[name] = own
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        found[name] = set(OF_SCRAPES)
    return found


def plain(query: str) -> str:
    """As Grafana sends it."""
    for name, value in {"$__rate_interval": "5m", "$instance": ".*", "$model": ".*", "$job": ".*"}.items():
        query = query.replace(name, value)
    return query


@pytest.mark.parametrize(("title", "query", "legend"), QUERIES)
def test_its_queries_ask_for_what_there_is(title, query, legend):
    metrics = known()
    bare = re.sub(r'"[^"]*"', '""', query)
    names = re.findall(r"\b((?:roundhouse|process)_\w+)", bare)
    assert names
    assert set(names) <= metrics.keys()
    for name, selector in re.findall(r"\b(\w+)\{([^}]*)\}", bare):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= metrics[name], title
    there = set.intersection(*(metrics[name] for name in names))
    grouped = {label for part in re.findall(r"\b(?:by|on) \(([^)]*)\)", bare) for label in part.split(", ")}
    assert grouped <= there | {"le"}
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert shown <= (grouped or there)
    assert set(re.findall(r"\b([a-z_]+)\(", bare)) <= FUNCTIONS
    for opening, closing in ("()", "{}", "[]"):
        assert bare.count(opening) == bare.count(closing)


def test_every_metric_has_its_place_on_it():
    asked = {name for _, query, _ in QUERIES for name in re.findall(r"roundhouse_\w+", query)}
    told = {re.sub(r"_(sum|count|bucket)$", "", name) for name in asked}
    assert set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) == told


def test_panels_lie_side_by_side_and_have_ids_of_their_own():
    taken = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_its_variables_are_those_that_are_used():
    named = {variable["name"] for variable in BOARD["templating"]["list"]} - {"datasource"}
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps([BOARD["panels"], BOARD["templating"]])))
    assert named == used


@pytest.mark.skipif(not (os.environ.get("PROMTOOL") or shutil.which("promtool")), reason="promtool is not there")
def test_prometheus_takes_its_queries(tmp_path):
    rules = [{"record": f"q{number}", "expr": plain(query)} for number, (_, query, _) in enumerate(QUERIES)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    tool = os.environ.get("PROMTOOL") or "promtool"
    done = subprocess.run([tool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout
