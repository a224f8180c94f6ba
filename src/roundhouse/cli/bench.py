"""`roundhouse bench`: how fast a model answers through Roundhouse, alone and with several at once.

Figures are a client's own: tokens as the engine counts them (`usage`), time on this program's clock.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundhouse.cli.exits import FAILED, Failed
from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, ModelArgument, UrlOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.cli.client import Client

PROMPT = "Tell me in some detail how a railway roundhouse with a turntable works, and why it is round."
OFF = {"x-roundhouse-status": "off"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer.

    Attributes:
        first: seconds until its first token; seconds: until its end.
        tokens: that were generated, None where the engine does not tell.
    """

    first: float
    seconds: float
    tokens: int | None

    @property
    def speed(self) -> float | None:
        """Tokens per second after the first one."""
        spent = self.seconds - self.first
        return (self.tokens - 1) / spent if self.tokens and self.tokens > 1 and spent > 0 else None


@dataclass(frozen=True, slots=True)
class Level:
    """So many requests at once. Speeds in tokens per second, times in seconds; None: the engine told no tokens."""

    at_once: int
    requests: int
    failed: int
    first_median: float | None
    first_worst: float | None
    speed_each: float | None
    speed_all: float | None
    tokens: int | None


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse bench smollm2-135m --at-once 4")(bench)


def bench(
    model: ModelArgument,
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Requests at once in the second part.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Requests of each of them.")] = 3,
    tokens: Annotated[int, typer.Option(min=2, help="The most tokens of an answer.")] = 128,
    prompt: Annotated[str, typer.Option(help="What is asked; each request has a number before it.")] = PROMPT,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure time to first token and tokens per second of a model, one request at a time and several at once.

    Loads the model if need be; that is not counted. Others' requests meanwhile are in the figures. Exits with 1 if a
    request fails.
    """
    from roundhouse.cli.client import Client
    from roundhouse.cli.screen import err, print_json
    from roundhouse.cli.watch import watching

    client = Client(url, key)
    with watching(client, model, "waiting for", err()):
        began = time.monotonic()
        ask(client, model, f"0. {prompt}", tokens)
    warm = time.monotonic() - began
    levels = []
    for count in dict.fromkeys((1, at_once)):
        with err().status(f"{count} at once, {count * rounds} requests"):
            levels.append(level(client, model, count, rounds, tokens, prompt))
    if as_json:
        print_json({"model": model, "first_answer_s": warm, "levels": [asdict(one) for one in levels]})
    else:
        _print(model, warm, levels)
    if any(one.failed for one in levels):
        raise typer.Exit(FAILED)


def ask(client: Client, model: str, prompt: str, tokens: int) -> Sample:
    """One answer, measured. Raises Failed, NotRunning, Refused."""
    from roundhouse.cli.client import events
    from roundhouse.cli.conversation import PATH

    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
    }
    began = time.monotonic()
    first, counted = None, None
    with client.open("POST", PATH, body, OFF) as response:
        for _, data in events(response):
            if data == "[DONE]":
                if first is None:
                    raise Failed("The answer was empty.")
                return Sample(first - began, time.monotonic() - began, counted)
            chunk = _parsed(data)
            if first is None and any(_says(choice) for choice in chunk.get("choices") or ()):
                first = time.monotonic()
            counted = (chunk.get("usage") or {}).get("completion_tokens") or counted
    raise Failed("The answer ended before its end; the connection was closed.")


def _parsed(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise Failed("The answer holds something that is no JSON.") from None
    if "error" in chunk:
        raise Failed(str(chunk["error"].get("message") or chunk["error"]))
    return dict(chunk)


def _says(choice: Mapping[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return any(delta.get(name) for name in ("content", "reasoning_content", "reasoning", "tool_calls"))


def level(client: Client, model: str, at_once: int, rounds: int, tokens: int, prompt: str) -> Level:
    """Asks with so many at once; each asks again as soon as it has its answer."""
    from concurrent.futures import ThreadPoolExecutor

    from roundhouse.errors import RouterError

    def one(number: int) -> list[Sample | None]:
        found: list[Sample | None] = []
        for turn in range(rounds):
            # Another beginning each time: else the engine has computed the prompt before.
            try:
                found.append(ask(client, model, f"{at_once}.{number}.{turn}. {prompt}", tokens))
            except RouterError:
                found.append(None)
        return found

    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        samples = [sample for found in pool.map(one, range(at_once)) for sample in found]
    return summed(at_once, samples, time.monotonic() - began)


def summed(at_once: int, samples: Sequence[Sample | None], seconds: float) -> Level:
    """The figures of all answers; `seconds` from the first request to the last answer's end."""
    good = [sample for sample in samples if sample is not None]
    speeds = [sample.speed for sample in good if sample.speed is not None]
    counts = [sample.tokens for sample in good if sample.tokens is not None]
    firsts = [sample.first for sample in good]
    return Level(
        at_once,
        len(samples),
        len(samples) - len(good),
        median(firsts) if firsts else None,
        max(firsts, default=None),
        median(speeds) if speeds else None,
        sum(counts) / seconds if counts else None,
        sum(counts) if counts else None,
    )


def _print(model: str, warm: float, levels: Sequence[Level]) -> None:
    from roundhouse.cli import screen

    names = ("AT ONCE", "REQUESTS", "FAILED", "FIRST TOKEN", "WORST", "TOK/S EACH", "TOK/S ALL")
    rows = [
        (
            str(one.at_once),
            str(one.requests),
            str(one.failed),
            _seconds(one.first_median),
            _seconds(one.first_worst),
            _figure(one.speed_each),
            _figure(one.speed_all),
        )
        for one in levels
    ]
    print(f"{model}: the first answer, with a load if it took one, came in {warm:.1f} s.")
    screen.out().print(screen.table(names, rows, names))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f} s"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
