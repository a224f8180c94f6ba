"""What `roundhouse top` shows: lines of text for a screen of a given size, from what the API tells. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from roundhouse.cli.screen import STYLES, duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from roundhouse.cli.rates import Rate

ORDER: Final = ("loading", "draining", "stopping", "ready", "failed", "unloaded")
"""States by how much they ask to be looked at."""
KEYS: Final = "q quit · ↑↓ choose · l load · u unload"
NARROWEST: Final = 40
LONGEST: Final = 2000
BAR: Final = 12
ROOMY: Final = 100
"""Columns from which on a load's bar has its full width."""
LEAST_EVENTS: Final = 3
BLANK: Final = dict.fromkeys((*range(32), *range(127, 160)), " ")
"""Control characters: what models and engines say must not steer the terminal, nor break a line."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known.

    Attributes:
        url: where it is of.
        state: of `GET /api/v1/state`, None before the first answer.
        queue: who waits, of `GET /api/v1/queue`.
        rate: what was answered lately.
        happened: the last events, the newest last.
        trouble: why nothing newer is known; '' while all is well.
        remark: what came of the last key.
    """

    url: str
    state: Mapping[str, Any] | None = None
    queue: Sequence[Mapping[str, Any]] = ()
    rate: Rate | None = None
    happened: Sequence[str] = field(default=())
    trouble: str = ""
    remark: str = ""


def ordered(state: Mapping[str, Any]) -> list[str]:
    """Names of models, the busiest states first."""
    models = state["models"]
    return sorted(models, key=lambda name: (_rank(models[name]["state"]), -models[name]["waiting"]))


def _rank(state: str) -> int:
    return ORDER.index(state) if state in ORDER else len(ORDER)


def board(picture: Picture, width: int, height: int, chosen: str | None = None) -> list[Text]:
    """Lines that fill such a screen: `height` of them, none wider than `width`."""
    width = max(width, NARROWEST)
    lines = [_head(picture)]
    if picture.state is not None:
        lines += _devices(picture.state["devices"], width)
        room = max(0, height - len(lines) - 3)
        queue = _queue(picture.queue, max(2, room // 3)) if picture.queue else []
        events = [Text(text, style="dim") for text in picture.happened]
        kept = min(len(events), LEAST_EVENTS, max(0, room - len(queue) - 4))
        lines += [Text(), *_models(picture.state, width, max(1, room - len(queue) - kept - 1), chosen), *queue]
        left = height - len(lines) - 2
        lines += [Text(), *events[-left:]] if left > 0 and events else []
    foot = Text(picture.remark or KEYS, style="" if picture.remark else "dim")
    filled = [*lines[: max(1, height - 1)], *(Text() for _ in range(height - 1 - len(lines))), foot]
    return [_cut(line, width) for line in filled[:height]]


def plain(picture: Picture) -> list[Text]:
    """Everything at once, for a pipe."""
    assert picture.state is not None
    models = _models(picture.state, LONGEST, len(picture.state["models"]) + 1, None)
    queue = _queue(picture.queue, len(picture.queue) + 1) if picture.queue else []
    lines = [_head(picture), *_devices(picture.state["devices"], 120), Text(), *models, *queue]
    return [_cut(line, LONGEST) for line in lines]


def _head(picture: Picture) -> Text:
    state = picture.state
    if state is None or picture.trouble:
        return Text(picture.trouble or f"asking {picture.url}", style="red" if picture.trouble else "")
    text = Text(f"Roundhouse {state['version']} ", style="bold")
    text.append(state["status"], style="green" if state["status"] == "healthy" else "yellow")
    text.append(f" · up {duration(state['uptime_s'])} · {state['queue']} waiting", style="default")
    if picture.rate is not None:
        text.append(f" · {picture.rate.requests:.1f} req/s · {picture.rate.tokens:.1f} tok/s", style="default")
    return text


def _devices(devices: Mapping[str, Mapping[str, int]], width: int) -> Iterator[Text]:
    names = max((len(name) for name in devices), default=0)
    cells = max(10, min(50, width - names - 45))
    for name, device in devices.items():
        total = max(device["total"], 1)
        ours = min(cells, round(cells * device["ours"] / total))
        # More than there is: then the total is a budget of ours, and what others have lies outside it.
        others = round(cells * device["foreign"] / total) if device["used"] <= total else 0
        others = min(cells - ours, others)
        line = Text(f"{name:<{names}} ").append("█" * ours, style="green").append("▒" * others, style="yellow")
        line.append("·" * (cells - ours - others), style="dim")
        line.append(f" {size(device['ours'])} of {size(device['total'])}")
        yield line.append(f" · others {size(device['foreign'])}", style="dim") if device["foreign"] else line


def _models(state: Mapping[str, Any], width: int, most: int, chosen: str | None) -> list[Text]:
    """A head, and as many models as have room; around the chosen one, if they have not all."""
    names = ordered(state)
    wide = min(max([5, *(len(name) for name in names)]), max(12, width // 3))
    rows = max(1, most - 1)
    if len(names) > rows:
        rows = max(1, rows - 1)
    first = max(0, min(names.index(chosen) - rows // 2, len(names) - rows)) if chosen in names else 0
    shown = names[first : first + rows]
    head = f"  {'MODEL':<{wide}} {'STATE':<9}{'MEMORY':>9} {'ACTIVE':>7} {'WAIT':>5}  NOTE"
    lines = [Text(head, style="bold")]
    lines += [
        _model(name, state["models"][name], wide, BAR if width >= ROOMY else BAR // 2, chosen == name) for name in shown
    ]
    if len(names) > len(shown):
        lines.append(Text(f"  … {len(names) - len(shown)} more", style="dim"))
    return lines


def _model(name: str, model: Mapping[str, Any], wide: int, cells: int, is_chosen: bool) -> Text:
    memory = sum(model["device"].values())
    slots = model.get("slots")
    active = f"{model['active']}/{slots}" if slots else str(model["active"])
    text = Text("▸ " if is_chosen else "  ", style="bold" if is_chosen else "")
    text.append(f"{name if len(name) <= wide else name[: wide - 1] + '…':<{wide}} ")
    text.append(f"{model['state']:<9}", style=STYLES.get(model["state"], "dim"))
    text.append(f"{size(memory) if memory else '':>9} {active:>7} {model['waiting'] or '':>5}  ")
    if model["state"] == "loading":
        return text.append(_loading(model, cells))
    from roundhouse.cli.status import note

    return text.append(note(model))


def _loading(model: Mapping[str, Any], cells: int) -> Text:
    """`███········· 25 % · about 3 s left · reading weights`."""
    progress = model.get("progress") or {}
    fraction = progress.get("fraction")
    parts = []
    if model.get("expected_s") and model.get("since") is not None:
        left = model["expected_s"] - model["since"]
        parts.append(f"about {duration(left)} left" if left >= 1 else "any moment now")
    else:
        parts.append(f"for {duration(model.get('since') or 0)}")
    parts.append(progress.get("stage") or "starting")
    text = Text()
    if fraction is not None:
        done = min(cells, round(cells * fraction))
        text.append("█" * done, style="yellow").append("·" * (cells - done), style="dim")
        text.append(f" {fraction * 100:.0f} % · ", style="default")
    return text.append(" · ".join(parts))


def _queue(queue: Sequence[Mapping[str, Any]], most: int) -> list[Text]:
    """A head, and as many requests as have room, the oldest first."""
    shown = queue if len(queue) < most else queue[: max(1, most - 2)]
    lines = [Text("  WAITING FOR", style="bold")]
    for entry in shown:
        task = " (task)" if entry["task"] else ""
        why = "; ".join(entry["why"])
        text = f"  {duration(entry['waited_s']):>6}  {entry['model']}{task}{': ' if why else ''}{why}"
        lines.append(Text(text))
    if len(queue) > len(shown):
        lines.append(Text(f"  … {len(queue) - len(shown)} more", style="dim"))
    return lines


def happening(kind: str, data: Mapping[str, Any]) -> str:
    """An event of the feed in words, '' for what is shown elsewhere."""
    model = data.get("model") or ""
    match kind:
        case "loading":
            return f"{model}: loading"
        case "ready":
            return f"{model}: ready after {data.get('seconds', 0):.1f} s"
        case "unloading":
            return f"{model}: unloading, {data.get('why') or 'asked'}"
        case "exited" if not data.get("expected"):
            return f"{model}: its engine ended: {data.get('reason') or 'nobody knows why'}"
        case "refused":
            return f"{model}: a request was refused: {data.get('error') or ''}"
        case "switch":
            return f"{model}: {data.get('verdict') or 'loaded'}"
        case _:
            return ""


def _cut(line: Text, width: int) -> Text:
    made = line.copy()
    made.plain = made.plain.translate(BLANK)
    made.truncate(width, overflow="ellipsis")
    made.no_wrap = True
    return made
