"""Whether Roundhouse runs, and what it says of its own models: the first thing to ask when a model won't switch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roundhouse.app.doctor.finding import error, note, ok, warning
from roundhouse.errors import RouterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit


def check(visit: Visit) -> Iterator[Finding]:
    """Its health, then each model that failed or waits."""
    try:
        health = visit.ask("/health")
    except RouterError as problem:
        yield note("roundhouse", problem.message)
        return
    if not isinstance(health, dict) or "version" not in health:
        yield note("roundhouse", "What answers at its address is no Roundhouse.")
        return
    yield ok("roundhouse", f"Roundhouse {health['version']} answers: {health.get('status')}.")
    state = visit.state()
    if state is None:
        yield note("roundhouse", "It does not tell what its models do.", "give an admin key: --key")
        return
    for name, model in state.get("models", {}).items():
        yield from _model(name, model)


def _model(name: str, model: Mapping[str, Any]) -> Iterator[Finding]:
    if model.get("state") == "failed" or model.get("error"):
        yield error(name, f"It failed: {model.get('error') or 'no reason is known'}", f"roundhouse logs {name}")
    elif model.get("state") == "loading":
        progress = model.get("progress") or {}
        stage = f" ({progress['stage']})" if progress.get("stage") else ""
        yield note(name, f"It is being loaded{stage}.", f"follow it: roundhouse logs -f {name}")
    elif model.get("waiting") and model.get("state") != "ready":
        yield warning(
            name,
            f"{model['waiting']} requests wait for it, and it is {model.get('state')}.",
            "`roundhouse status` shows who holds the memory",
        )
    elif model.get("state") == "ready":
        yield ok(name, f"It is loaded; {model.get('active', 0)} requests are being answered.")
