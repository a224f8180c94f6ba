"""Which GPUs a program sees: environment variables of CUDA and ROCm, written for a place and read as users say them.

Pure. CUDA counts the fastest GPU first unless told to go by PCI address, so that its numbers and NVML's agree only with
CUDA_DEVICE_ORDER (CUDA C++ Programming Guide, "CUDA Environment Variables"). ROCm counts by PCI address and recommends
ROCR_VISIBLE_DEVICES on Linux, which takes UUIDs (ROCm, "GPU isolation techniques"). Vulkan programs obey neither:
llama.cpp's GGML_VK_VISIBLE_DEVICES takes numbers in the driver's own order, which nothing here can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.core.model import DeviceId
    from roundhouse.ports import Gpu, Place

CUDA: Final = "CUDA_VISIBLE_DEVICES"
ORDER: Final = "CUDA_DEVICE_ORDER"
BY_PCI: Final = "PCI_BUS_ID"
ROCR: Final = "ROCR_VISIBLE_DEVICES"
HIP: Final = "HIP_VISIBLE_DEVICES"
VARIABLES: Final = (CUDA, HIP, ROCR)
NONE: Final = frozenset({"", "-1", "NoDevFiles"})
AMD: Final = "amd"


def environment(place: Place | None, theirs: Mapping[str, str], *, numbers: bool = False) -> dict[str, str]:
    """What makes a program see the GPUs of its place, in that order, and no others.

    Args:
        place: None says nothing.
        theirs: the user's variables. Where one of them says what is seen, ours don't; numbers in it are ours all the
            same.
        numbers: whether GPUs are named by number although their UUIDs are known: vLLM and SGLang read the variable
            themselves, as whole numbers (vLLM issue 13815, SGLang's custom_all_reduce.py).
    """
    if place is None or not place.machine:
        return {}
    if place.free or said(theirs):
        return {ORDER: BY_PCI}
    if not place.gpus:
        return _nothing(place)
    nvidia = [gpu for gpu in place.gpus if gpu.vendor != AMD]
    amd = [gpu for gpu in place.gpus if gpu.vendor == AMD]
    found: dict[str, str] = {}
    if nvidia:
        found |= {ORDER: BY_PCI, CUDA: _listed(nvidia, numbers=numbers)}
    if amd:
        known = all(gpu.uuid for gpu in amd)
        found[ROCR if known else HIP] = _listed(amd, numbers=not known)
    return found


def said(env: Mapping[str, str]) -> bool:
    """Whether an environment says which GPUs are seen."""
    return any(name in env for name in VARIABLES)


def seen(env: Mapping[str, str], names: Mapping[DeviceId, Gpu]) -> tuple[DeviceId, ...] | None:
    """The GPUs that a user's environment leaves visible, in its order; None where it says nothing that can be read.

    As CUDA does: UUIDs may be cut short, and the list ends at the first name that is no GPU. Parts of GPUs (MIG) are
    not known here, nor numbers in an order of the user's choice.
    """
    listed = next((env[name] for name in VARIABLES if name in env), None)
    if listed is None:
        return None
    if listed.strip() in NONE:
        return ()
    found: list[DeviceId] = []
    for word in listed.split(","):
        device = _meant(word.strip(), names, counted=env.get(ORDER, BY_PCI) == BY_PCI)
        if device is None:
            break
        found.append(device)
    return tuple(found) or None


def _meant(word: str, names: Mapping[DeviceId, Gpu], *, counted: bool) -> DeviceId | None:
    if word.isdecimal():
        return next((device for device, name in names.items() if counted and name.index == int(word)), None)
    return next((device for device, name in names.items() if word and name.uuid.startswith(word)), None)


def _listed(gpus: Sequence[Gpu], *, numbers: bool) -> str:
    parts = any(gpu.uuid.startswith("MIG-") for gpu in gpus)  # have no numbers
    by_number = (numbers and not parts) or not all(gpu.uuid for gpu in gpus)
    return ",".join(str(gpu.index) if by_number else gpu.uuid for gpu in gpus)


def _nothing(place: Place) -> dict[str, str]:
    """HIP's runtime has no word for none; it takes a number that no GPU has."""
    vendors = {gpu.vendor for gpu in place.machine}
    found = {CUDA: ""} if vendors != {AMD} else {}
    return found | ({HIP: "-1"} if AMD in vendors else {})
