"""What an EXL2 or EXL3 folder says: safetensors with their own `quantization_config` (bits per weight). Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from roundhouse.formats import safetensors
from roundhouse.formats.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from roundhouse.ports import ModelFacts

METHODS = frozenset({"exl2", "exl3"})


def method(config: bytes) -> str | None:
    """`exl2`, `exl3`, or None for any other folder. Raises FormatError if config.json can't be read."""
    quantised = safetensors.document(config, "config.json").get("quantization_config")
    name = quantised.get("quant_method") if isinstance(quantised, dict) else None
    return name.lower() if isinstance(name, str) and name.lower() in METHODS else None


def facts(config: bytes, headers: Iterable[tuple[bytes, int]], *, chat_template: bool = False) -> ModelFacts:
    """Facts from config.json and (header, file size) of each weight file. Raises FormatError."""
    name = method(config)
    if name is None:
        raise FormatError("config.json names neither exl2 nor exl3")
    bits = safetensors.document(config, "config.json")["quantization_config"].get("bits")
    figure = f" {bits:g} bpw" if isinstance(bits, int | float) and not isinstance(bits, bool) else ""
    plain = safetensors.facts(config, headers, chat_template=chat_template)
    return replace(plain, format=name, quantisation=name.upper() + figure)
