"""Each model: its files are there and readable, nothing speaks against a load; and the advice that goes with it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from roundhouse.app import specs
from roundhouse.app.advice import advise
from roundhouse.app.doctor.finding import error, note, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.app.advice import Advice
    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.app.specs import Looked
    from roundhouse.config.models import ModelConfig

LARGEST_SCRIPT = 1 << 20
"""Bytes of a start script that are read."""


def check(visit: Visit) -> Iterator[Finding]:
    """Every model; what the loader warned about comes first."""
    for text in visit.config.warnings:
        yield warning("configuration", text, "correct the configuration, then `roundhouse check`")
    if not visit.config.models:
        yield warning("configuration", "It names no models.", "name some under `models:`, or set `models_dir:`")
    for model in visit.engines:
        yield from _model(model)


def advice_about(model: ModelConfig) -> tuple[Advice, ...]:
    """The advice about a model, its files and start script being read for it."""
    return advise(model, specs.look(model).facts, script_of(model))


def script_of(model: ModelConfig) -> str | None:
    """The text of its start script; None without one, or if it can't be read."""
    if model.script is None:
        return None
    try:
        with model.script.open("rb") as file:
            return file.read(LARGEST_SCRIPT).decode("utf-8", "replace")
    except OSError:
        return None


def _model(model: ModelConfig) -> Iterator[Finding]:
    looked = specs.look(model)
    problem = looked.problem or _unreadable(model)
    if problem:
        yield error(model.id, f"It can't be loaded: {problem.removesuffix('.')}.", _remedy(model))
    else:
        yield ok(model.id, _described(model, looked))
    for piece in advise(model, looked.facts, script_of(model)):
        told = f"{piece.what[0].upper()}{piece.what[1:]}."
        yield (warning if piece.grave else note)(model.id, told, piece.remedy)


def _unreadable(model: ModelConfig) -> str | None:
    paths: list[Path] = [path for path in (model.path, model.mmproj) if path is not None]
    for path in paths:
        if path.exists() and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            return f"{path} can't be read by this user"
    return None


def _remedy(model: ModelConfig) -> str:
    return f"correct `models.{model.id}` or the file, then `roundhouse check`"


def _described(model: ModelConfig, looked: Looked) -> str:
    if looked.facts is None:
        return f"Nothing speaks against it ({model.engine})."
    kind = looked.facts.quantisation or looked.facts.format
    return f"Its files are there ({model.engine}, {kind}, {looked.facts.weights / 1024**3:.1f} GiB)."
