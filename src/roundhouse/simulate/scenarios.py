"""Workloads by name, each with the box it is meant for: what people's boxes are like, and where schedulers go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.core.model import Device, Kind, ModelSpec
from roundhouse.simulate.setup import Setup, Timing
from roundhouse.simulate.workloads import Agents, Chats, Poisson, Retrieval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.simulate.world import Workload

GIB = 2**30
CARD = Device("gpu0", 24 * GIB, 24 * GIB)
LARGE = 20 * GIB
"""Of a model that has the card to itself."""
SLOTS = 4
HOURS = 4.0
"""How long a scenario is played, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A box and who asks it. `traffic` takes the seconds until its end and a seed."""

    about: str
    setup: Setup
    traffic: Callable[[float, int], Workload]


def box(loads: Mapping[str, float], *, small: Mapping[str, tuple[int, Kind]] | None = None) -> Setup:
    """One 24 GiB card and models by their load seconds, which exclude one another but for the `small` ones."""
    specs, small = [], small or {}
    for name, load in loads.items():
        size, kind = small.get(name, (LARGE, Kind.CHAT))
        specs.append(ModelSpec(name, kind=kind, claim={CARD.id: size}, slots=SLOTS, expected=load))
    return Setup(tuple(specs), (CARD,), {name: Timing(load) for name, load in loads.items()})


SCENARIOS: Mapping[str, Scenario] = {
    "poisson": Scenario(
        "three models, each asked once a minute at random",
        box({"A": 15.0, "B": 15.0, "C": 15.0}),
        lambda until, seed: Poisson({"A": 1 / 60, "B": 1 / 60, "C": 1 / 60}, until, seed),
    ),
    "busy": Scenario(
        "model A asked every 4 s, B and C now and then",
        box({"A": 15.0, "B": 15.0, "C": 15.0}),
        lambda until, seed: Poisson({"A": 1 / 4, "B": 1 / 90, "C": 1 / 120}, until, seed),
    ),
    "overload": Scenario(
        "model A asked for nearly all that it can answer (every 1.9 s), B and C now and then",
        box({"A": 15.0, "B": 15.0, "C": 15.0}),
        lambda until, seed: Poisson({"A": 1 / 1.9, "B": 1 / 90, "C": 1 / 120}, until, seed),
    ),
    "agents": Scenario(
        "three coding agents, each with a model of its own, that load in 20 s",
        box({"A": 20.0, "B": 20.0, "C": 20.0}),
        lambda _, seed: Agents("ABC", seed),
    ),
    "agents-6": Scenario(
        "six coding agents on three models that load in 20 s",
        box({"A": 20.0, "B": 20.0, "C": 20.0}),
        lambda _, seed: Agents("AABBCC", seed),
    ),
    "crowd": Scenario(
        "ten agents on model A and one on B, load 20 s",
        box({"A": 20.0, "B": 20.0}),
        lambda _, seed: Agents("AAAAAAAAAAB", seed),
    ),
    "openwebui": Scenario(
        "two people in Open WebUI, whose titles and tags are asked of another model, T",
        box({"A": 20.0, "T": 5.0}),
        lambda _, seed: Chats(2, "A", "T", seed),
    ),
    "openwebui-unmarked": Scenario(
        "the same, with titles and tags that can't be told from chats",
        box({"A": 20.0, "T": 5.0}),
        lambda _, seed: Chats(2, "A", "T", seed, marked=False),
    ),
    "retrieval": Scenario(
        "four people who ask about their documents: embeddings (E) beside two chat models",
        box({"A": 20.0, "B": 20.0, "E": 2.0}, small={"E": (GIB, Kind.EMBEDDING)}),
        lambda _, seed: Retrieval(4, "AB", "E", seed),
    ),
}
"""By name. The first eight are those of the scheduler's design, so that figures can be compared."""
