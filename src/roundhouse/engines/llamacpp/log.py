"""What llama-server's output says: how far a load is, and why it failed.

The lines are of builds b10434 and b11434 (tests/captures/llamacpp), and for GPUs of their source.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Progress
from roundhouse.engines.llamacpp import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

STATE: Final = "cmd_child_to_router:state:"
"""How lines of progress mode begin; JSON follows."""

STAGES: Final = (
    ("load_model: loading model", "reading weights"),
    ("llama threadpool init", "warming up"),
    ("warming up the model", "warming up"),
)
PARTS: Final = {
    "text_model": "reading weights",
    "mmproj_model": "reading the vision projector",
    "spec_model": "reading the draft model",
}


def progress(line: str) -> Progress | None:
    """Progress mode's own lines, else stages of the log; None where a line says nothing."""
    if line.startswith(STATE):
        return _reported(line.removeprefix(STATE))
    return next((Progress(stage=stage) for sign, stage in STAGES if sign in line), None)


BUFFER: Final = re.compile(r"(?P<where>\S+) +(?P<what>model|KV|RS|output|compute) buffer size = +(?P<mib>[\d.]+) MiB")
"""`load_tensors:   CPU_Mapped model buffer size =    92.10 MiB`; RS is the state of recurrent layers."""
VOCABULARY: Final = re.compile(r"n_vocab += +(\d+)")
ANEW: Final = ("output", "compute")
"""Buffers that a context may ask for again, in another size; a cache or weights named again come on top."""


def held(lines: Sequence[str]) -> int | None:
    """Bytes of the buffers on GPUs; where there are none, of those in RAM and the program. None where some are missing.

    Not in it: a GPU driver's own memory, a projector, other machines' buffers (RPC).
    """
    settled: dict[str, float] = {}
    latest: dict[tuple[str, str], float] = {}
    for found in filter(None, map(BUFFER.search, lines)):
        if found["what"] in ANEW:
            latest[found["where"], found["what"]] = float(found["mib"])
            continue
        _settle(settled, latest)
        settled[found["where"]] = settled.get(found["where"], 0.0) + float(found["mib"])
    if not any(what == "compute" for _, what in latest):  # the last to be made
        return None
    _settle(settled, latest)
    on_gpus = sum(mib for where, mib in settled.items() if not _in_ram(where) and not where.startswith("RPC"))
    if on_gpus:
        return int(on_gpus * layout.MIB)
    vocabulary = next((int(count[1]) for line in lines if (count := VOCABULARY.search(line))), 0)
    in_ram = sum(mib for where, mib in settled.items() if _in_ram(where))
    return int(in_ram * layout.MIB) + layout.program(vocabulary)


def _settle(settled: dict[str, float], latest: dict[tuple[str, str], float]) -> None:
    for (where, _), mib in latest.items():
        settled[where] = settled.get(where, 0.0) + mib
    latest.clear()


def _in_ram(where: str) -> bool:
    """`CPU`, `CPU_Mapped`, `CPU_REPACK`, `AMX`, and what a GPU reads from RAM (`CUDA_Host`)."""
    return where.startswith(("CPU", "AMX", "BLAS")) or where.endswith("_Host")


def _reported(text: str) -> Progress | None:
    """`{"state":"loading","payload":{"stages":[...],"current":"text_model","value":0.42}}`: value is of that stage."""
    try:
        message = json.loads(text)
        if message["state"] == "ready":
            return Progress(1.0, "ready")
        stages, current, value = (message["payload"][key] for key in ("stages", "current", "value"))
        fraction = (stages.index(current) + min(max(float(value), 0.0), 1.0)) / len(stages)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return Progress(fraction, PARTS.get(current, str(current).replace("_", " ")))


def _reason(pattern: str, sentence: str) -> tuple[re.Pattern[str], str]:
    return re.compile(pattern, re.MULTILINE), sentence


MEMORY: Final = (
    _reason(
        r"attempted to allocate (?P<size>[\d.]+ \w+)\)",
        "not enough memory for {size} more: give it a smaller `context` or fewer `slots`",
    ),
    _reason(
        r"allocating (?P<size>[\d.]+ \w+) on device (?P<device>\d+): cudaMalloc failed",
        'not enough memory on GPU {device} for {size} more: give it a smaller `context`, or `args: [-fit, "on"]`, '
        "which leaves layers on the CPU",
    ),
    _reason(
        r"OutOfDeviceMemory|[Dd]evice memory allocation of size|out of memory",
        'not enough GPU memory: give it a smaller `context`, or `args: [-fit, "on"]`, which leaves layers on the CPU',
    ),
    _reason(
        r"failed to allocate|unable to allocate \S+ buffer|Cannot allocate memory|std::bad_alloc",
        "not enough memory: give it a smaller `context` or fewer `slots`",
    ),
)
"""Want of memory."""

REASONS: Final = (
    _reason(r"couldn't bind HTTP server socket.*port: (?P<port>\d+)", "port {port} is taken by another program"),
    _reason(r"^error: invalid argument: (?P<flag>.+)$", "llama-server does not know the argument {flag}: see `args`"),
    _reason(
        r'error while handling argument "(?P<flag>[^"]+)": (?:error: )?(?P<why>.+)$',
        "llama-server can't use the argument {flag} ({why}): see `args`",
    ),
    *MEMORY,
    _reason(r"failed to open GGUF file '(?P<path>[^']+)' \(No such file", "the file {path} does not exist"),
    _reason(r"failed to open GGUF file '(?P<path>[^']+)' \((?P<why>[^)]+)", "the file {path} can't be opened ({why})"),
    _reason(r"failed to load multimodal model, '(?P<path>[^']+)'", "{path} is no vision projector for this model"),
    _reason(r"invalid magic characters|failed to read magic", "{file} is not a GGUF file"),
    _reason(r"data is not within the file bounds|corrupted or incomplete", "{file} is incomplete: download it again"),
    _reason(
        r"unknown model architecture: '(?P<name>[^']*)'",
        "this llama.cpp build does not know the architecture '{name}': a newer one may",
    ),
    _reason(r"GGUF file is version (?P<version>\d+)", "{file} is of GGUF version {version}: take a newer llama.cpp"),
    _reason(
        r"AMX is not ready to be used!\s*\Z",
        "this llama-server was built for processors with AVX-512 and crashed: install another build",
    ),
    _reason(r"(?P<where>[^\s/]+:\d+): (?P<what>GGML_ASSERT\(.*\) failed)", "llama.cpp gave up at {where}: {what}"),
)
"""The first that is found anywhere wins: causes stand before what may follow from them."""

PREFIX: Final = re.compile(r"^(?:\d+\.\d\d\.\d{3}\.\d{3} )?(?P<level>[A-Z]) ")
UNHELPFUL: Final = ("exiting due to", "send_error", "got exception", "decode:", "update_slots")
"""In lines that follow from another one, or are about one request of a server that ran."""


def failure(lines: Sequence[str]) -> str:
    """The reason in words, without a full stop; '' when the log tells none (it was killed, say)."""
    text = "\n".join(lines)
    for pattern, sentence in REASONS:
        if found := pattern.search(text):
            return sentence.format(**{"file": _file(text), **found.groupdict("")})
    return _last_error(lines)


def out_of_memory(lines: Sequence[str]) -> bool:
    """Whether the reason is want of memory."""
    text = "\n".join(lines)
    return any(pattern.search(text) for pattern, _ in MEMORY)


def _last_error(lines: Sequence[str]) -> str:
    """The last error line without its time, level and module."""
    for line in reversed(lines):
        found = PREFIX.match(line)
        wrong = found["level"] == "E" if found else line.startswith(("error", "terminate called", "  what():"))
        if wrong and not any(sign in line for sign in UNHELPFUL):
            return re.sub(r"^(?:\w+ +)?\S+: +", "", PREFIX.sub("", line)).strip()
    return ""


def _file(text: str) -> str:
    found = re.search(r"loading model '([^']+)'", text)
    return found[1] if found else "the model file"
