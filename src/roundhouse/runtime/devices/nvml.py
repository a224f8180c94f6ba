"""NVIDIA GPUs through NVML, the driver's own library, by nvidia-ml-py (the module `pynvml`).

What its functions return is told in NVIDIA's NVML API Reference Guide: Device Queries, Multi Instance GPU Management.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from roundhouse.runtime.devices.aside import LIMIT, Thread
from roundhouse.runtime.devices.gpu import Card, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


class Nvml:
    """A source. With MIG each slice is a card: engines can be given one by its UUID, never the whole GPU."""

    vendor = "nvidia"

    def __init__(self, limit: float = LIMIT) -> None:
        self._thread = Thread(limit)
        self._nvml: ModuleType | None = None

    async def cards(self) -> list[Card]:
        """As `Source`. GPUs that have fallen off the bus are left out."""
        return await self._thread.call(self._cards)

    def _cards(self) -> list[Card]:
        nvml = self._open()
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            found = [card for handle in handles for card in _cards(nvml, handle)]
        except nvml.NVMLError as error:
            self._close()
            raise Unreadable(str(error)) from error
        if handles and not found:
            self._close()
            raise Unreadable("no GPU answers")
        return found

    def _open(self) -> ModuleType:
        """The library, started. It is started anew after it failed: the driver may have been replaced."""
        if self._nvml is not None:
            return self._nvml
        try:
            import pynvml  # noqa: PLC0415  an extra; and loading a driver is not for machines that have none
        except ImportError as error:
            raise Unreadable("nvidia-ml-py is not installed") from error
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise Unreadable(str(error)) from error
        self._nvml = nvml = cast("ModuleType", pynvml)
        return nvml

    def _close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is None:
            return
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            pass  # it was not running any more


def _cards(nvml: ModuleType, handle: Any) -> Iterator[Card]:  # noqa: ANN401  an opaque pointer of the library
    """The card, or its slices; none if it is lost."""
    try:
        place = _text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower()
        slices = _slices(nvml, handle)
        if slices is None:
            yield _card(nvml, handle, place)
            return
        for number, part in enumerate(slices):
            yield _card(nvml, part, f"{place}/{number:02d}")
    except nvml.NVMLError:
        return


def _slices(nvml: ModuleType, handle: Any) -> list[Any] | None:  # noqa: ANN401  as above
    """The MIG devices of a GPU, None where it isn't divided."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        return None  # most GPUs can't be
    if current != 1:  # NVML_DEVICE_MIG_ENABLE
        return None
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError:
            continue  # indices may have gaps
    return found


def _card(nvml: ModuleType, handle: Any, place: str) -> Card:  # noqa: ANN401  as above
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    users = _users(nvml, handle)
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        return Card(uuid, place, None, users=users)  # unified memory: Jetson, GB10
    return Card(uuid, place, memory.total, memory.used, users)


def _users(nvml: ModuleType, handle: Any) -> dict[int, int | None]:  # noqa: ANN401  as above
    """Bytes by pid. A process that computes and draws is in both lists with the same figure."""
    users: dict[int, int | None] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            found = ask(handle)
        except nvml.NVMLError:
            continue  # not for this kind of GPU
        for process in found:
            size = process.usedGpuMemory
            known = users.get(process.pid)
            users[process.pid] = size if known is None else max(known, size or 0)
    return users


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # older releases of the library answer in bytes
