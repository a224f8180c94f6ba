"""What one answer cost: tokens as the engine counted them, seconds as they passed (spec B3).

Never counts chunks or characters: where the engine tells no figures, there are none. Knows no wire format but the
`usage` and `timings` objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from roundhouse.dialects import status

if TYPE_CHECKING:
    from collections.abc import Mapping

EXTRA_KEYS: Final = ("response_token/s", "total_s", "load_s", "queue_s", "ttft_s")
"""What we add to `usage`."""


class Meter:
    """Gathers the figures of one answer while it passes.

    All times are seconds of the caller's one clock.

    Attributes:
        usage: the engine's last `usage` object, else one made of its timings; None when it told neither.
        timings: llama.cpp's last `timings` object.
        first: when the first token came; last: when the latest came.
    """

    __slots__ = ("_arrived", "_load_s", "_queue_s", "_sent", "_told", "first", "last", "timings")

    def __init__(self, arrived: float, queue_s: float = 0.0, load_s: float = 0.0) -> None:
        self._arrived = arrived
        self._queue_s = queue_s
        self._load_s = load_s
        self._sent = arrived + queue_s + load_s
        self._told: Mapping[str, Any] | None = None
        self.timings: Mapping[str, Any] | None = None
        self.first: float | None = None
        self.last = self._sent

    def note(self, chunk: Mapping[str, Any]) -> None:
        """Takes the figures that a chunk or a whole answer carries."""
        usage, timings = chunk.get("usage"), chunk.get("timings")
        if isinstance(usage, dict):
            self._told = usage
        if isinstance(timings, dict):
            self.timings = timings

    def token(self, now: float) -> None:
        """Text has come."""
        if self.first is None:
            self.first = now
        self.last = now

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """The engine's usage; where it sent only timings (llama.cpp without `include_usage`), the same from those."""
        if self._told is not None or self.timings is None:
            return self._told
        prompt = _count(self.timings, "prompt_n") + _count(self.timings, "cache_n")
        answer = _count(self.timings, "predicted_n")
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    @property
    def tokens(self) -> int | None:
        """Tokens of the answer; None when the engine did not say."""
        usage = self.usage
        count = usage.get("completion_tokens") if usage else None
        return count if isinstance(count, int) else None

    @property
    def ttft(self) -> float | None:
        """Seconds from the engine getting the request to its first token (queue and load are apart)."""
        return None if self.first is None else max(0.0, self.first - self._sent)

    def seconds(self, now: float) -> float | None:
        """Seconds that generation took: by the engine's own rate, else first to last token; None with no tokens.

        An answer that came at once (one token, or one read) has no such span; then it is the time since the engine
        got the request.
        """
        tokens = self.tokens
        if not tokens:
            return None
        rate = self._engine_rate(tokens)
        if rate:
            return tokens / rate
        span = self.last - self.first if self.first is not None else 0.0
        return span if span > 0.0 else max(now - self._sent, 1e-6)

    def rate(self, now: float) -> float | None:
        """Tokens per second of generation."""
        seconds = self.seconds(now)
        return None if seconds is None or self.tokens is None else self.tokens / seconds

    def line(self, now: float) -> str | None:
        """The performance line; None rather than one without figures."""
        seconds, tokens = self.seconds(now), self.tokens
        return None if seconds is None or tokens is None else status.performance(tokens, seconds)

    def extended_usage(self, now: float) -> dict[str, Any] | None:
        """The engine's usage with our keys (seconds, and tokens per second); None when it told none."""
        usage = self.usage
        if usage is None:
            return None
        rate, ttft = self.rate(now), self.ttft
        ours = {
            "response_token/s": None if rate is None else round(rate, 2),
            "total_s": round(max(0.0, now - self._arrived), 3),
            "load_s": round(self._load_s, 3),
            "queue_s": round(self._queue_s, 3),
            "ttft_s": None if ttft is None else round(ttft, 3),
        }
        return {**usage, **{key: value for key, value in ours.items() if value is not None}}

    def _engine_rate(self, tokens: int) -> float | None:
        """The engine's own tokens per second, where it is about this very answer.

        llama.cpp: `timings` are of one slot, so not of all choices; and with one token they mean nothing (predicted_ms
        starts at the first token).
        """
        timings = self.timings
        if timings is None or tokens < 2 or timings.get("predicted_n") != tokens:
            return None
        rate = timings.get("predicted_per_second")
        return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def _count(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    return value if isinstance(value, int) else 0
