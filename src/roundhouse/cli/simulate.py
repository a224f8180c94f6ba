"""`roundhouse simulate`: what another policy, or another box, would have made of the same requests."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundhouse.cli.exits import Usage
from roundhouse.cli.matter import HISTORY, export, find, seconds_of, understood
from roundhouse.cli.options import ConfigOption, JsonOption
from roundhouse.cli.simulated import AS_IT_IS, bar, sentences, show

if TYPE_CHECKING:
    from roundhouse.simulate.setup import Setup


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse simulate history --last 1d --device gpu1=24GiB")(simulate)


def simulate(
    what: Annotated[
        str,
        typer.Argument(
            help="`history` (the requests that this installation remembers), a trace file, or made-up traffic: "
            "poisson, busy, overload, agents, agents-6, crowd, openwebui, openwebui-unmarked, retrieval.",
        ),
    ] = HISTORY,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", "-p", help="turns, fifo or run-first; may be repeated. Default: all.", show_default=False
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="What if a device had this size, such as gpu0=48GiB; a new one is added.", show_default=False
        ),
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(help="Seconds of a load, such as llama-70b=20s, or 20s for all.", show_default=False),
    ] = None,
    max_wait: Annotated[
        str | None, typer.Option(help="scheduling.max_wait for turns, such as 2m, or auto.", show_default=False)
    ] = None,
    linger: Annotated[
        str | None, typer.Option(help="scheduling.linger for turns, such as 5s, auto or off.", show_default=False)
    ] = None,
    slowdown: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="How much each further answer at the same time slows the others: 0 to 1.", show_default=False
        ),
    ] = None,
    limits: Annotated[bool, typer.Option("--limits", help="Keep queue limits and time-outs, which refuse.")] = False,
    open_loop: Annotated[
        bool,
        typer.Option("--open-loop", help="Every request comes at its recorded time, whenever the one before ended."),
    ] = False,
    last: Annotated[str, typer.Option(help="How much of the history, back from its last request.")] = "1d",
    time: Annotated[str, typer.Option(help="How long made-up traffic goes on.")] = "4h",
    seeds: Annotated[int, typer.Option(min=1, help="How many times made-up traffic is made up.")] = 4,
    write: Annotated[
        Path | None, typer.Option(help="Write the history as a trace to this file instead.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay requests in virtual time through the planner that also runs the real ones, and compare policies.

    `turns` is Roundhouse's own policy as configured, `fifo` strictly the order of arrival, `run-first` whoever is
    loaded for as long as it has work. Nothing is started, and Roundhouse may be running.
    """
    from roundhouse.cli.screen import out, print_json
    from roundhouse.core.memory import say
    from roundhouse.simulate.compare import compare
    from roundhouse.simulate.setup import POLICIES

    if write is not None:
        export(what, write, config, last)
        return
    matter = find(what, config, last, time, seeds, open_loop=open_loop)
    policies = list(dict.fromkeys(policy or POLICIES))
    if unknown := [name for name in policies if name not in POLICIES]:
        raise Usage(f"There is no policy {unknown[0]!r}; there are {', '.join(POLICIES)}.")
    sizes = devices_of(device or [])

    def prepared(setup: Setup) -> Setup:
        setup = with_policy(with_loads(setup, load or []), max_wait, linger)
        setup = setup if slowdown is None else setup.with_slowdown(slowdown)
        return setup if limits else setup.without_limits()

    boxes = {AS_IT_IS: prepared(matter.setup)}
    if sizes:
        boxes[f"with {' and '.join(f'{name} of {say(size)}' for name, size in sizes.items())}"] = prepared(
            matter.other(sizes)
        )
    with bar(len(boxes) * len(policies) * matter.seeds, matter.span) as watch:
        results = compare(boxes, policies, matter.traffic, matter.seeds, matter.until, watch)
    said = sentences(results)
    if as_json:
        print_json(
            {
                "what": matter.name,
                "about": matter.about,
                "seeds": matter.seeds,
                "seconds": matter.span,
                "notes": list(matter.notes),
                "results": [{"box": r.box, "policy": r.policy, **asdict(r.figures)} for r in results],
                "sentences": said,
            }
        )
        return
    show(out(), matter, results, said)


def with_loads(setup: Setup, loads: list[str]) -> Setup:
    """The box with other load times."""
    for text in loads:
        model, _, seconds = text.rpartition("=")
        if model and model not in setup.timing:
            raise Usage(f"--load: there is no model {model!r}; there are {', '.join(setup.timing)}.")
        setup = setup.with_load(seconds_of(seconds, "--load"), model or None)
    return setup


def with_policy(setup: Setup, max_wait: str | None, linger: str | None) -> Setup:
    """The box with other scheduling settings."""
    policy = setup.policy
    if max_wait is not None:
        policy = replace(policy, max_wait=None if max_wait == "auto" else seconds_of(max_wait, "--max-wait"))
    if linger is not None:
        words = {"auto": None, "off": 0.0}
        policy = replace(policy, linger=words[linger] if linger in words else seconds_of(linger, "--linger"))
    return replace(setup, policy=policy)


def devices_of(texts: list[str]) -> dict[str, int]:
    """Bytes by device. Raises Usage."""
    from roundhouse.config import units

    sizes = {}
    for text in texts:
        name, _, written = text.partition("=")
        size = understood(units.size, written, "--device") if name and written else 0
        if not size:
            raise Usage(f"--device {text}: write a device and its size, such as gpu1=24GiB.")
        sizes[name] = size
    return sizes
