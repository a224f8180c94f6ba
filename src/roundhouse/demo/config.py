"""The demo's configuration: a file like any other, kept in the cache so that it can be read and copied."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from roundhouse.demo.engine import Engine

# Gemma 3 270M is a base model: two examples show it the form of the answer.
CHAT_TEMPLATE: Final = """\
Question: What is the capital of Italy?
Answer: Rome.

Question: Who painted the Mona Lisa?
Answer: Leonardo da Vinci.

{% for message in messages -%}
{% if message['role'] == 'assistant' %}Answer: {{ message['content'] }}

{% elif message['role'] == 'user' %}Question: {{ message['content'] }}
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}Answer:{% endif %}"""


@dataclass(frozen=True, slots=True)
class Assets:
    """What the configuration needs, all on disk."""

    engine: Engine
    smollm2: Path
    gemma3: Path
    template: Path
    minilm: Path


@dataclass(frozen=True, slots=True)
class _Figures:
    """Memory in MiB, as measured with 2 slots of 4096 tokens (gemma with its whole window kept), rounded up.

    The budget holds either chat model beside the embedding model, with room for one to grow in use, but not both chat
    models, nor would it if all three were measured a little lower.
    """

    smollm2: int
    gemma3: int
    minilm: int
    budget: int


_MODULE: Final = _Figures(smollm2=360, gemma3=530, minilm=110, budget=760)
# The prebuilt server keeps a second, repacked copy of quantised weights where the processor has AMX.
_PREBUILT: Final = _Figures(smollm2=440, gemma3=690, minilm=120, budget=900)


def demo_config(assets: Assets, listen: str, state_dir: Path) -> str:
    """The YAML text for these files, an address to listen on, and a folder for history and logs."""
    figures = _PREBUILT if assets.engine.prebuilt else _MODULE
    # On a machine with a GPU the demo stays on the CPU: its budget is one of main memory. And a small one, so no copies
    # of old prompts. Our shim knows neither flag.
    flags = ["--device", "none", "--cache-ram", "0"] if assets.engine.prebuilt else []
    template = ["--jinja", "--chat-template-file", str(assets.template)]
    return f"""\
# The configuration of `roundhouse demo`. It is written anew at each start; copy it to change it.
listen: {_quoted(listen)}
state_dir: {_quoted(state_dir)}
engines: {{llamacpp: {{binary: {_quoted(assets.engine.program)}}}}}

# Main memory that the models may use together: enough for the embedding model and one of the chat models.
devices: {{ram: {figures.budget}MiB}}

models:
  smollm2-135m:
    name: SmolLM2 135M
    description: A very small chat model that knows how to hold a conversation.
    tags: [demo, chat]
    path: {_quoted(assets.smollm2)}
    memory: {{ram: {figures.smollm2}MiB}}
    context: 4096
    slots: 2
    args: {_list(flags)}
  gemma3-270m:
    name: Gemma 3 270M (base)
    description: A small base model, lent a question-and-answer template. Ask it for facts.
    tags: [demo, chat]
    path: {_quoted(assets.gemma3)}
    memory: {{ram: {figures.gemma3}MiB}}
    context: 4096
    slots: 2
    args: {_list([*template, *flags])}
    set: {{stop: ["Question:", "\\n\\n"]}}
  minilm-l6:
    name: all-MiniLM-L6-v2
    description: Sentence embeddings of 384 dimensions.
    tags: [demo, embedding]
    kind: embedding
    path: {_quoted(assets.minilm)}
    memory: {{ram: {figures.minilm}MiB}}
    context: 512
    slots: 2
    args: {_list(flags)}
    preload: true
    pinned: true
"""


def _list(values: list[str]) -> str:
    return f"[{', '.join(map(_quoted, values))}]"


def _quoted(value: str | Path) -> str:
    """A YAML string that means just this: JSON's form is YAML too, and `$$` is our loader's `$`."""
    return json.dumps(str(value).replace("$", "$$"), ensure_ascii=False)
