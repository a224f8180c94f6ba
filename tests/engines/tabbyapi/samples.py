"""Models, facts and captures as the tests of TabbyAPI need them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from roundhouse.config.models import ModelConfig, Tabby
from roundhouse.ports import ModelFacts

CAPTURES = Path(__file__).parent.parent.parent / "captures" / "tabbyapi"
DIR = Path("/srv/tabbyAPI")
MODELS = Path("/srv/models")


def tabby_model(
    tabby_dir: Path = DIR,
    model_dir: Path = MODELS,
    name: str = "A-exl3",
    *,
    model: dict[str, Any] | None = None,
    **tabby: Any,
) -> ModelConfig:
    """`tabby` are keys of the `tabby:` section, `model` of the model around it."""
    section = Tabby(**{"dir": tabby_dir, "model_dir": model_dir, "model_name": name, **tabby})
    plain = {"id": "m", "engine": "tabbyapi", "launcher": "process", "tabby": section}
    return ModelConfig(**{**plain, **(model or {})})


def facts(**other: Any) -> ModelFacts:
    """Figures of a Gemma 3 27B in EXL3, as if all layers saw everything."""
    known: dict[str, Any] = {
        "format": "exl3",
        "weights": 13_500_000_000,
        "context": 131072,
        "layers": 62,
        "heads_kv": (16,) * 62,
        "key_length": 128,
        "value_length": 128,
    }
    return ModelFacts(**{**known, **other})


def capture(name: str) -> tuple[int, bytes]:
    """Status and body of an exchange with the real server (of a stream with its real line ends)."""
    lines = [line[9:] for line in (CAPTURES / name).read_text().splitlines() if re.match(r" {1,3}\d+\.\d{3}  ", line)]
    empty = lines.index("")
    status = int(lines[0].split()[1])
    body = [line for line in lines[empty + 1 :] if not line.startswith("curl:")]
    stream = any("text/event-stream" in line for line in lines[:empty])
    return status, ("\r\n".join([*body, ""]) if stream else "\n".join(body)).encode()
