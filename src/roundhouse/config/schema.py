"""The JSON Schema of the configuration file, for editors. Generated from the models; knows no files."""

from __future__ import annotations

from typing import Any

from roundhouse.config import units
from roundhouse.config.checks import SOURCES
from roundhouse.config.models import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """A schema that editors use for completion and hints. The loader's own checks go further."""
    schema = Config.model_json_schema(mode="validation")
    _spell_bounds(schema)
    for section in (schema, *schema["$defs"].values()):
        for field in section.get("properties", {}).values():
            _spell_default(field)
    model = schema["$defs"]["ModelConfig"]
    model["oneOf"] = [{"required": [key], "properties": {key: {"not": {"type": "null"}}}} for key in SOURCES]
    return {**schema, "$schema": DIALECT, "title": "Roundhouse configuration"}


_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def _spell_bounds(part: Any) -> None:  # noqa: ANN401 -- any part of a schema
    """Pydantic leaves bounds over a validator of ours under its own names, which no editor knows."""
    if isinstance(part, dict):
        for ours, theirs in _BOUNDS.items():
            if isinstance(part.get(ours), int | float):
                part[theirs] = part.pop(ours)
        for inner in part.values():
            _spell_bounds(inner)
    elif isinstance(part, list):
        for inner in part:
            _spell_bounds(inner)


def _spell_default(field: dict[str, Any]) -> None:
    """Defaults are seconds and bytes in the models; a file has them with units. A whole section's says nothing new."""
    default = field.get("default")
    allowed = [part.get("type") for part in field.get("anyOf", ())]
    if isinstance(default, dict) or ("default" in field and default is None and allowed and "null" not in allowed):
        del field["default"]
    patterns = [part.get("pattern", "") for part in (field, *field.get("anyOf", ()))]
    if isinstance(default, int | float) and any(patterns):
        is_size = any("iB" in pattern for pattern in patterns)
        field["default"] = units.spell_size(int(default)) if is_size else units.spell_duration(default)
