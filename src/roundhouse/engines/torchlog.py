"""What engines built on PyTorch and Transformers have in common in their output: how a load is told, and its failure.

Knows lines of text and no engine: each has its own stages and causes in the forms given here, and takes off what its
lines begin with.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Stages = tuple[tuple[re.Pattern[str], float, str], ...]
"""How a line begins, the part of the load that is done then (0..1), and what comes next."""
Bars = tuple[tuple[re.Pattern[str], float, float, str], ...]
"""How a progress bar begins, the parts of the load where it starts and ends (0..1), and what it is about."""
Causes = tuple[tuple[re.Pattern[str], str], ...]
"""What is looked for, and the sentence that it means. The first found wins: causes stand before consequences."""

BAR: Final = re.compile(r"^(?P<what>[^|%]{3,120}?): *(?P<percent>\d{1,3})%(?: Completed)? *\|")
"""tqdm's, as `Loading safetensors checkpoint shards:  62% Completed | 8/13` or `Capturing batches:  37%|███▋ | 3/8`."""
EXCEPTION: Final = re.compile(r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)): *(?P<what>\S.*)")
"""The last line of a traceback."""
FOLLOWS: Final = re.compile(r"root cause|initialization failed|died during initialization|died unexpectedly")
"""In exceptions that another one, told above them, is the cause of."""
SAYS_ERROR: Final = re.compile(r"^(?:[\w. -]{1,40}: )?(?:[Ee]rror|ERROR|[Ff]atal)\b")
"""Not any line with the word in it: warnings explain what errors one may get."""

ROOM: Final = "give it a smaller `context` or fewer `slots`"


def stages(*rows: tuple[str, float, str]) -> Stages:
    """Compiles a table."""
    return tuple((re.compile(pattern), done, stage) for pattern, done, stage in rows)


def bars(*rows: tuple[str, float, float, str]) -> Bars:
    """Compiles a table."""
    return tuple((re.compile(pattern), begin, end, stage) for pattern, begin, end, stage in rows)


def causes(*rows: tuple[str, str]) -> Causes:
    """Compiles a table; named groups of the patterns are put into the sentences."""
    return tuple((re.compile(pattern, re.MULTILINE), sentence) for pattern, sentence in rows)


MEMORY: Final = causes(
    (
        r"GPU (?P<gpu>\d+) has a total capacity of (?P<all>[\d.]+ \w+)[^\n]*? of which (?P<free>[\d.]+ \w+) is free",
        f"not enough memory on GPU {{gpu}} ({{free}} of {{all}} left): {ROOM}",
    ),
    (r"out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)", f"not enough GPU memory for {{size}} more: {ROOM}"),
    (r"OutOfMemoryError|CUDA(?: error:)? out of memory", f"not enough GPU memory: {ROOM}"),
    (r"DefaultCPUAllocator: |^MemoryError|Cannot allocate memory", f"not enough memory: {ROOM}"),
)
"""Want of memory, where engines don't differ."""

COMMON: Final = (
    *causes(
        (r"error: unrecognized arguments: (?P<words>.+)$", "this version does not know {words}: see `args`"),
        (r"error: argument (?P<name>[^:\n]+): (?P<why>.+)$", "it can't use the argument {name} ({why}): see `args`"),
    ),
    *MEMORY,
    *causes(
        (r"address \('[^']*', (?P<port>\d+)\): address already in use", "port {port} is taken by another program"),
        (r"[Aa]ddress already in use", "its port is taken by another program"),
        (r"Repo id must be [^\n]*'repo_name' or 'namespace/repo_name': '(?P<path>[^']+)'", "{path} does not exist"),
        (
            (
                r"Unrecognized model in (?P<path>\S+?)\. Should have|"
                r"(?P<folder>\S+) does not appear to have a file named config|"
                r"Invalid repository ID or local directory specified: '(?P<other>[^']+)'"
            ),
            "{path}{folder}{other} is not a model: its config.json is missing or says no `model_type`",
        ),
        (
            r"Unknown quantization method: (?P<name>[\w-]+)",
            "it does not know the quantisation `{name}`; another engine may",
        ),
        (
            r"quantization method (?P<name>[\w-]+) is not supported for the current GPU",
            "this GPU is too old for the quantisation `{name}`",
        ),
        (
            r"Model architectures \[?'?(?P<name>[\w, ']+?)'?\]? are not supported",
            "this version does not know the architecture {name}: a newer one may",
        ),
        (
            r"model type `(?P<name>[^`]+)` but Transformers does not recognize this architecture",
            "its Transformers does not know the architecture {name}: a newer one may",
        ),
        (r"SafetensorError: (?P<why>.+)$", "a weight file is damaged or incomplete ({why}): download it again"),
        (
            r"no kernel image is available for execution on the device",
            "it was built for other GPU architectures: install a build for this GPU",
        ),
        (r"Found no NVIDIA driver|CUDA driver version is insufficient", "the NVIDIA driver is missing or too old"),
        (r"No CUDA GPUs are available|Failed to infer device type", "it found no GPU that it can use"),
        (r"No space left on device", "the disk is full"),
        (r"^ModuleNotFoundError: (?P<why>No module named .+)$", "its Python lacks a package ({why}): install it anew"),
    ),
)
"""Why a load failed, where engines don't differ."""


def progress(text: str, told: Stages, drawn: Bars) -> Progress | None:
    """What a line without its prefix says, None if nothing."""
    if bar := BAR.match(text):
        part = min(int(bar["percent"]), 100) / 100
        found = (row for row in drawn if row[0].match(bar["what"]))
        return next((Progress(begin + (end - begin) * part, stage) for _, begin, end, stage in found), None)
    return next((Progress(done, stage) for pattern, done, stage in told if pattern.match(text)), None)


def failure(lines: Sequence[str], known: Causes, child: re.Pattern[str]) -> str:
    """The reason in one line of words, without a full stop; '' where nothing tells it.

    The table's, else the last exception that is no consequence, else what became of a child, else a line that begins
    with error.

    Args:
        lines: the last ones, without their prefixes.
        known: reasons, best first.
        child: what the engine says of a process of its own that is gone, with its exit code as group `code`.
    """
    text = "\n".join(lines)
    for pattern, sentence in known:
        if found := pattern.search(text):
            return sentence.format(**found.groupdict(""))
    latest = lines[::-1]
    return _exception(latest) or _child(latest, child) or next(filter(SAYS_ERROR.match, latest), "").strip()[:400]


def out_of_memory(lines: Sequence[str], known: Causes, child: re.Pattern[str]) -> bool:
    """Whether one of these causes is told, or a process of its own was killed, as the kernel does where memory ends.

    Args: as of `failure`, with the causes that are want of memory.
    """
    text = "\n".join(lines)
    killed = any(int(found["code"]) == -signal.SIGKILL for found in child.finditer(text))
    return killed or any(pattern.search(text) for pattern, _ in known)


def _exception(latest: Iterable[str]) -> str:
    found = (EXCEPTION.match(line) for line in latest if not FOLLOWS.search(line))
    return next((f"{error['what'].strip()} ({error['type'].rpartition('.')[2]})"[:400] for error in found if error), "")


def _child(latest: Iterable[str], pattern: re.Pattern[str]) -> str:
    code = next((int(found["code"]) for line in latest if (found := pattern.search(line))), None)
    if code is None:
        return ""
    if code == -signal.SIGKILL:
        return f"one of its processes was killed (signal 9), most likely as the machine's memory ran out: {ROOM}"
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"one of its processes {how}"
