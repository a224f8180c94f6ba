"""The program of an engine on this machine: where the configuration says, else wherever its kind is looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.ports import Build
from roundhouse.runtime import binaries, interpreters

if TYPE_CHECKING:
    from pathlib import Path

    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.ports import Engine


async def build_of(config: Config, model: ModelConfig, engine: Engine, cache: Path | None) -> Build:
    """How a model's engine is called. `cache` is a file of what was found before. Raises LoadFailed in words."""
    told = getattr(config.engines, engine.name, None)
    if model.tabby is not None:
        return interpreters.find_tabby(model.tabby.dir, config.engines.tabbyapi.python)
    if engine.module is not None:
        python = getattr(told, "python", None)
        return await interpreters.find(engine.name, engine.module, configured=python, cache=cache)
    if engine.binaries:
        return await binaries.find(engine.name, engine.binaries, getattr(told, "binary", None), cache)
    return Build(())
