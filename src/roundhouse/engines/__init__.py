"""Descriptions of engines, one module or package each; none knows another, and nobody else knows one by name."""

from types import MappingProxyType
from typing import TYPE_CHECKING

from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.engines.openai import OpenAICompatible
from roundhouse.engines.sglang import SGLang
from roundhouse.engines.tabbyapi import TabbyAPI
from roundhouse.engines.vllm import VLLM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.ports import Engine

_ALL: "tuple[Engine, ...]" = (LlamaCpp(), SGLang(), TabbyAPI(), VLLM(), OpenAICompatible())
ENGINES: "Mapping[str, Engine]" = MappingProxyType({engine.name: engine for engine in _ALL})
"""By the name that `engine:` gives them."""
