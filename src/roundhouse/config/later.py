"""Settings that this version reads but does not act on yet, so that `check` can say so instead of keeping quiet.

A row leaves this file when its behaviour arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.config.models import Config, ModelConfig


def not_yet(config: Config) -> tuple[str, ...]:
    """One sentence for each setting that was written and has no effect in this version."""
    return tuple(text for model in config.models.values() for text in _model(model))


def _model(model: ModelConfig) -> Iterator[str]:
    at = f"models.{model.id}"
    if model.max_instances > 1:
        yield f"{at}.max_instances: one engine per model runs in this version"
