"""llama-server's slots, saved and restored over HTTP (`POST /slots/N?action=save`), and which models that works for.

Facts from b10434 and b11434: a restore answers 200 also where it restores nothing that can be used; a file of another
quantisation of the same model is accepted; a slot's state is whole only where every layer keeps all of it. Of a sliding
window only the last one is written, also with `--swa-full` (`llama_kv_cache::state_write` leaves masked cells out), and
with that flag the server does not notice when a request then goes back: it answers from what is not there (b11434).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roundhouse.core.memory import say
from roundhouse.engines.llamacpp import flags, layout
from roundhouse.ports import Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import Build, ModelFacts, Reply


@dataclass(frozen=True, slots=True)
class LlamaSlots:
    """The slots of one model's server. `args` are the user's own; `window` is the sliding one in tokens, 0 for none."""

    per_token: int
    args: tuple[str, ...] = ()
    window: int = 0

    def arguments(self, folder: Path, build: Build) -> tuple[str, ...]:
        """The folder; and no prompt cache in RAM, which grows to 8 GiB unseen and knows nothing of keys."""
        if build.flags and not flags.given(tuple(build.flags), flags.SLOT_FOLDER):
            return ()
        said = flags.given(self.args, flags.CACHE_RAM)
        known = not build.flags or flags.given(tuple(build.flags), flags.CACHE_RAM)
        return (flags.SLOT_FOLDER[0], str(folder), *(("--cache-ram", "0") if known and not said else ()))

    def fields(self, slot: int | None, *, fresh: bool) -> Mapping[str, object]:
        """`id_slot` names the slot; a request for one that is busy waits for it."""
        return ({} if slot is None else {"id_slot": slot}) | ({"cache_prompt": False} if fresh else {})

    def save(self, slot: int, file: str, limit: float) -> Exchange:
        """Written at once under that name, for all to read unless the folder forbids it."""
        return _action("save", slot, file, limit)

    def restore(self, slot: int, file: str, limit: float) -> Exchange:
        """Refused with 400 where the file is cut off, or of another shape or cache type."""
        return _action("restore", slot, file, limit)

    def erase(self, slot: int, limit: float) -> Exchange:
        """Nothing of it is left."""
        return Exchange("POST", f"/slots/{slot}?action=erase", b"{}", timeout=limit)

    def floor(self, tokens: int) -> int:
        """All of them, if there is a window and they do not fit into it."""
        return tokens if 0 < self.window < tokens else 0

    def trial(self, path: str, body: bytes, limit: float) -> Exchange:
        """`n_predict` wins over `max_tokens` and its like; the rest decides what the prompt is."""
        told = {key: value for key, value in json.loads(body).items() if key not in {"stream", "stream_options"}}
        return Exchange("POST", path, json.dumps({**told, "n_predict": 0}).encode(), timeout=limit)

    def found(self, reply: Reply) -> int | None:
        """`timings.cache_n`."""
        try:
            told = json.loads(reply.body) if reply.status == 200 else {}
            return self.reused(told.get("timings") or {})
        except (ValueError, AttributeError):
            return None

    def tokens(self, reply: Reply) -> int | None:
        """`n_saved` or `n_restored`; a full disk is a 200 with `n_written` 0."""
        try:
            told = json.loads(reply.body) if reply.status == 200 else {}
            found, written = told.get("n_saved", told.get("n_restored")), told.get("n_written", 1)
        except (ValueError, AttributeError):
            return None
        return found if isinstance(found, int) and written else None

    def reused(self, timings: Mapping[str, Any]) -> int | None:
        """`cache_n`."""
        found = timings.get("cache_n")
        return found if isinstance(found, int) else None

    def computed(self, timings: Mapping[str, Any]) -> tuple[int, float] | None:
        """`prompt_n` tokens in `prompt_ms`."""
        count, spent = timings.get("prompt_n"), timings.get("prompt_ms")
        if not isinstance(count, int) or not isinstance(spent, int | float):
            return None
        return count, spent / 1000


def _action(action: str, slot: int, file: str, limit: float) -> Exchange:
    body = json.dumps({"filename": file}).encode()
    return Exchange("POST", f"/slots/{slot}?action={action}", body, timeout=limit)


def why_not(model: ModelConfig, facts: ModelFacts | None) -> str:
    """Why a chat model's conversations can't be saved, in words; '' if they can."""
    if not model.sessions:
        return "they are switched off (`sessions`)"
    if model.script is not None or model.launcher == "attached":
        return "its engine is not started by our words, so nothing is known of its slots"
    if flags.given(model.args, flags.SLOT_FOLDER):
        return "`args` have a --slot-save-path of their own"
    if flags.given(model.args, flags.NO_CACHE):
        return "`args` forbid to use a prompt again (--no-cache-prompt)"
    if model.mmproj is not None:
        return "llama-server saves no slots of a model with a vision projector (`mmproj: null` does without)"
    if facts is not None and facts.state:
        return "its recurrent layers can't be brought back part-way"
    plan = layout.layout(model, facts)
    if facts is not None and facts.window and not plan.swa_full:
        more = say(layout.window_cost(plan, facts))
        return (
            f"its sliding window forgets what would have to be restored; `args: [--swa-full]` keeps it, for {more} more"
        )
    return ""


def per_token(model: ModelConfig, facts: ModelFacts | None) -> int:
    """Bytes that a token takes in a file: all that the cache holds for it."""
    if facts is None:
        return 0
    plan = layout.layout(model, facts)
    cells = plan.cells if plan.unified else (plan.cells // plan.slots) * plan.slots
    return layout.cache(plan, facts) // max(cells, 1)
