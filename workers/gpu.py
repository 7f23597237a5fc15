"""Which GPU does this worker use, and what does NVML read of it? No GPU is an answer, not an error."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

VISIBLE = "CUDA_VISIBLE_DEVICES"
Reading = TypeVar("Reading")


@dataclass(frozen=True)
class GpuBinding:
    """The GPU that this process is bound to. `memory_bytes` is the total, None if NVML does not tell it."""

    name: str
    index: int
    uuid: str
    memory_bytes: int | None


@dataclass(frozen=True)
class NoGpu:
    """The worker runs on the CPU, and why."""

    reason: str


@dataclass(frozen=True)
class GpuReadings:
    """What NVML reads now. None means unknown (not supported, or hidden under MIG), never zero.

    `throttle_reasons` names what slows the clocks down; it is empty if nothing does.
    """

    memory_used_bytes: int | None
    utilisation_percent: int | None
    temperature_c: int | None
    power_mw: int | None
    throttle_reasons: tuple[str, ...] | None


def bind(index: int | None, *, nvml: Any = None, environ: MutableMapping[str, str] = os.environ) -> GpuBinding | NoGpu:
    """Bind this process to one GPU: NVML's `index`, or if None the one with the most free memory.

    Sets CUDA_VISIBLE_DEVICES to its UUID, so it must come before the process first uses CUDA. If the variable is
    already set, only the GPUs it names are taken. NVML stays open for the life of the process. `nvml` is the
    pynvml module, or in tests one like it.
    """
    if nvml is None:
        try:
            nvml = _pynvml()
        except ImportError as error:
            return NoGpu(f"no GPU: NVML's Python binding is missing ({error})")
    try:
        nvml.nvmlInit()
        handles = _visible(nvml, environ.get(VISIBLE))
    except nvml.NVMLError as error:
        return NoGpu(f"no GPU: {error}")
    if not handles:
        seen = f" among {VISIBLE}={environ[VISIBLE]}" if VISIBLE in environ else ""
        return NoGpu(f"no GPU: NVML lists none{seen}")
    if index is not None and index not in handles:
        return NoGpu(f"no GPU {index}: there {'is' if len(handles) == 1 else 'are'} {', '.join(map(str, handles))}")
    if index is None:
        index = max(handles, key=lambda place: (_memory(nvml, handles[place], "free") or 0, -place))
    handle = handles[index]
    try:
        name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError as error:
        return NoGpu(f"no GPU: GPU {index} does not answer ({error})")
    environ[VISIBLE] = uuid
    return GpuBinding(name, index, uuid, _memory(nvml, handle, "total"))


def readings(binding: GpuBinding, *, nvml: Any = None) -> GpuReadings:
    """Read the bound GPU; each figure that cannot be read is None."""
    nvml = nvml or _pynvml()
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(binding.uuid)
    except nvml.NVMLError:
        return GpuReadings(None, None, None, None, None)
    utilisation = _read(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    mask = _read(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    return GpuReadings(
        memory_used_bytes=_memory(nvml, handle, "used"),
        utilisation_percent=None if utilisation is None else int(utilisation.gpu),
        temperature_c=_read(nvml, lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        power_mw=_read(nvml, lambda: int(nvml.nvmlDeviceGetPowerUsage(handle))),
        throttle_reasons=None if mask is None else _throttle_reasons(mask),
    )


# NVML's nvmlClocksEventReason* bits, but for "idle": a GPU with nothing to do is not being slowed down.
_REASONS = {
    0x02: "application clocks",
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal, software",
    0x40: "thermal, hardware",
    0x80: "power brake",
    0x100: "display clocks",
}


def _throttle_reasons(mask: int) -> tuple[str, ...]:
    return tuple(reason for bit, reason in _REASONS.items() if mask & bit)


def _pynvml() -> Any:
    return importlib.import_module("pynvml")


def _visible(nvml: Any, allowed: str | None) -> dict[int, Any]:
    """Handles by NVML index; only those that CUDA_VISIBLE_DEVICES (indices or UUIDs) allows, if it is set."""
    handles = {place: nvml.nvmlDeviceGetHandleByIndex(place) for place in range(nvml.nvmlDeviceGetCount())}
    if allowed is None:
        return handles
    names = [name.strip() for name in allowed.split(",")]
    kept = {}
    for place, handle in handles.items():
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        if str(place) in names or any(name.startswith("GPU-") and uuid.startswith(name) for name in names):
            kept[place] = handle
    for name in names:
        if name.startswith("MIG-"):  # a slice of a GPU, kept under the number of the whole
            handle = nvml.nvmlDeviceGetHandleByUUID(name)
            kept[int(nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)))] = handle
    return kept


def _memory(nvml: Any, handle: Any, part: str) -> int | None:
    memory = _read(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    return None if memory is None else int(getattr(memory, part))


def _read(nvml: Any, ask: Callable[[], Reading]) -> Reading | None:
    try:
        return ask()
    except nvml.NVMLError:
        return None  # the meaning of None here: this GPU, driver or MIG slice does not tell


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
