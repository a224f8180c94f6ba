"""Whether a program's GPU code runs on a GPU: NVIDIA's rules of binary and PTX compatibility. Pure.

Source: CUDA C++ Programming Guide, "Compute Capabilities" and "Binary / PTX Compatibility". An architecture is written
`sm_90` (machine code) or `compute_90` (PTX, compiled on the GPU's machine at the first use).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"\b(sm|compute)_(\d+)(\d)([af]?)\b")

Arch = tuple[str, int, int, str]
"""`sm` or `compute`, major, minor, and the suffix: a (that architecture alone), f (its family)."""


def archs_in(text: str) -> frozenset[str]:
    """The architectures that a listing names (`cuobjdump --list-elf --list-ptx`, `torch.cuda.get_arch_list()`)."""
    return frozenset(found[0] for found in _NAME.finditer(text))


def runs(archs: Iterable[str], capability: str) -> bool:
    """Whether code for one of these architectures runs on a GPU of a compute capability, such as '12.0'."""
    return runs_as_built(archs, capability) or any(_ptx_fits(_parsed(arch), _capability(capability)) for arch in archs)


def runs_as_built(archs: Iterable[str], capability: str) -> bool:
    """The same without compiling at the first use."""
    return any(_binary_fits(_parsed(arch), _capability(capability)) for arch in archs)


def name_of(capability: str) -> str:
    """`sm_120` for '12.0'."""
    major, minor = _capability(capability)
    return f"sm_{major}{minor}"


def _parsed(arch: str) -> Arch:
    found = _NAME.fullmatch(arch)
    if found is None:
        return "", 0, 0, ""
    return found[1], int(found[2]), int(found[3]), found[4]


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _binary_fits(arch: Arch, gpu: tuple[int, int]) -> bool:
    """Machine code runs on the same major version, and its minor version or a later one."""
    kind, major, minor, suffix = arch
    if kind != "sm" or major != gpu[0]:
        return False
    return minor == gpu[1] if suffix == "a" else minor <= gpu[1]


def _ptx_fits(arch: Arch, gpu: tuple[int, int]) -> bool:
    """PTX runs on its own version and all later ones; with a suffix it is as bound as machine code."""
    kind, major, minor, suffix = arch
    if kind != "compute":
        return False
    if suffix:
        return major == gpu[0] and (minor == gpu[1] if suffix == "a" else minor <= gpu[1])
    return (major, minor) <= gpu
