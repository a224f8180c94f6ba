"""What `roundhouse simulate` simulates: the history of this installation, a trace file, or made-up traffic."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from roundhouse.cli.exits import Failed, Refused, Usage

if TYPE_CHECKING:
    from roundhouse.app.simulation import Installation
    from roundhouse.config.models import Config
    from roundhouse.observe.past import Past
    from roundhouse.simulate import boxes
    from roundhouse.simulate.setup import Setup
    from roundhouse.simulate.trace import Entry, Trace
    from roundhouse.simulate.world import Workload

HISTORY = "history"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Matter:
    """What is simulated.

    Attributes:
        setup: the box; other: makes the same one with other devices, by their bytes.
        traffic: makes the workload of a seed, of which there are `seeds`.
        until: seconds until the end, None: the traffic's own.
        span: about how many seconds it will be.
    """

    name: str
    about: str
    setup: Setup
    other: Callable[[Mapping[str, int]], Setup]
    traffic: Callable[[int], Workload]
    seeds: int = 1
    until: float | None = None
    span: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """A box that recorded requests are played on: `other` makes it with other devices, `here` says what was assumed."""

    here: Installation
    other: Callable[[Mapping[str, int]], Setup]


def find(what: str, config: Path | None, last: str, time: str, seeds: int, *, open_loop: bool) -> Matter:
    """History, made-up traffic, or a trace file. Raises Usage, ConfigError."""
    from roundhouse.simulate.scenarios import SCENARIOS

    if what == HISTORY:
        box, entries, notes = remembered(config, last)
        return replay(HISTORY, "the history", box, entries, notes, open_loop=open_loop)
    if what not in SCENARIOS:
        return from_file(Path(what), config, open_loop=open_loop)
    scenario, until = SCENARIOS[what], seconds_of(time, "--time")
    return Matter(
        what,
        f"{scenario.about}; {time}, {'1 seed' if seeds == 1 else f'{seeds} seeds'}",
        scenario.setup,
        lambda devices: with_devices(scenario.setup, devices),
        lambda seed: scenario.traffic(until, seed),
        seeds,
        until,
        until,
    )


def remembered(config: Path | None, last: str) -> tuple[Stage, list[Entry], list[str]]:
    """This installation, its history, and notes about what of it can't be replayed as it was. Raises Usage."""
    from roundhouse.app.simulation import entries_of, past_of
    from roundhouse.cli.serve import read_config
    from roundhouse.observe.past import UnreadablePast

    read = read_config(config)
    try:
        past = past_of(read, seconds_of(last, "--last"))
    except UnreadablePast as error:
        raise Usage(f"{error}. Made-up traffic needs none: roundhouse simulate agents.") from None
    box = configured(read, past)
    entries, notes = entries_of(past.requests, box.here.setup.timing)
    if not entries:
        raise Usage("The history has no request that could be replayed; try --last 30d, or: roundhouse simulate agents")
    return box, entries, [*notes, *box.here.notes(entry.model for entry in entries)]


def from_file(path: Path, config: Path | None, *, open_loop: bool) -> Matter:
    """A trace, on the box that it describes, else on the configured one. Raises Usage, ConfigError."""
    trace = read_trace(path)
    box = described(trace.box) if trace.box is not None and config is None else at_hand(config)
    models = box.here.setup.timing
    entries = [entry for entry in trace.entries if entry.model in models]
    missing = ", ".join(sorted({entry.model for entry in trace.entries} - models.keys()))
    if not entries:
        raise Usage(f"{path} asks for {missing}, which the box does not have; name another --config.")
    notes = box.here.notes(entry.model for entry in entries)
    if missing:
        left_out = len(trace.entries) - len(entries)
        notes.append(f"{left_out} requests left out, for models that the box does not have: {missing}")
    return replay(path.name, f"the trace {path}", box, entries, notes, open_loop=open_loop)


def configured(config: Config, past: Past) -> Stage:
    """The configured box, with what it has learned."""
    from roundhouse.app.simulation import installation

    return Stage(installation(config, past), lambda devices: installation(config, past, devices).setup)


def at_hand(config: Path | None) -> Stage:
    """The configured box, whether it has a history or not."""
    from roundhouse.app.simulation import past_of
    from roundhouse.cli.serve import read_config
    from roundhouse.observe.past import Past, UnreadablePast

    read = read_config(config)
    try:
        past = past_of(read, 0.0)
    except UnreadablePast:
        past = Past()
    return configured(read, past)


def described(told: boxes.Box) -> Stage:
    """The box that a trace describes."""
    from roundhouse.app.simulation import Installation
    from roundhouse.simulate.boxes import to_setup

    setup = to_setup(told)
    return Stage(Installation(setup), lambda devices: with_devices(setup, devices))


def with_devices(setup: Setup, devices: Mapping[str, int]) -> Setup:
    """The box with devices changed or added."""
    from roundhouse.core.model import Device

    for name, size in devices.items():
        setup = setup.with_device(Device(name, size, size))
    return setup


def read_trace(path: Path) -> Trace:
    """A trace file. Raises Usage."""
    from roundhouse.simulate.scenarios import SCENARIOS
    from roundhouse.simulate.trace import TraceError, read

    try:
        with path.open(encoding="utf-8") as file:
            return read(file)
    except TraceError as error:
        raise Usage(f"{path}: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        others = ", ".join([HISTORY, *SCENARIOS])
        raise Usage(f"Can't read the trace {path}: {reason}. Besides trace files there are: {others}.") from None


def replay(name: str, about: str, box: Stage, entries: list[Entry], notes: list[str], *, open_loop: bool) -> Matter:
    """Recorded requests as something to simulate."""
    from roundhouse.cli.screen import duration
    from roundhouse.simulate.trace import Replay

    span = max(entry.ended for entry in entries) - entries[0].at
    pauses = "all at their recorded times" if open_loop else "sessions keep their pauses"
    return Matter(
        name,
        f"{about}: {len(entries)} requests over {duration(span)}; {pauses}",
        box.here.setup,
        box.other,
        lambda _seed: Replay(entries, closed=not open_loop),
        span=span,
        notes=tuple(notes),
    )


def export(what: str, path: Path, config: Path | None, last: str) -> None:
    """Writes the history as a trace that describes its box."""
    from roundhouse.simulate.boxes import to_json
    from roundhouse.simulate.trace import write

    if what != HISTORY:
        raise Usage("Only the history can be written: roundhouse simulate history --write FILE.")
    box, entries, notes = remembered(config, last)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in write(entries, to_json(box.here.setup)))
    except FileExistsError:
        raise Refused(f"{path} exists already and was left as it is.") from None
    except OSError as error:
        raise Failed(f"Can't write {path}: {error.strerror}.") from None
    for note in notes:
        print(f"roundhouse: {note}", file=sys.stderr)
    print(f"roundhouse: wrote {len(entries)} requests. Next: roundhouse simulate {path}", file=sys.stderr)


def seconds_of(text: str, option: str) -> float:
    """A duration as in the configuration. Raises Usage."""
    from roundhouse.config import units

    return understood(units.duration, text, option)


def understood(read: Callable[[object], T], text: str, option: str) -> T:
    """What an option's text means. Raises Usage naming the option."""
    try:
        return read(text)
    except ValueError as error:
        raise Usage(f"{option}: {error}.") from None
