"""Does a worker bind to the right GPU, and say unknown where NVML does not tell?"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from qosqueue_workers.gpu import GpuBinding, GpuReadings, NoGpu, bind, readings

GIB = 2**30


class FakeNvml:
    """NVML with the GPUs it is told of; a figure that is not given is not supported, as under MIG."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: dict[str, Any], slices: dict[str, int] | None = None, broken: str = "") -> None:
        self.gpus = gpus
        self.slices = slices or {}
        self.broken = broken

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError(self.broken)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> dict[str, Any]:
        if uuid in self.slices:
            return {"uuid": uuid, "name": "slice", "parent": self.slices[uuid]}
        for gpu in self.gpus:
            if gpu["uuid"] == uuid:
                return gpu
        raise self.NVMLError("Not Found")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: dict[str, Any]) -> dict[str, Any]:
        return self.gpus[int(handle["parent"])]

    def nvmlDeviceGetIndex(self, handle: dict[str, Any]) -> int:
        return self.gpus.index(handle)

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> bytes:
        return str(self._figure(handle, "name")).encode()

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> Any:
        return self._figure(handle, "uuid")

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:
        used, total = self._figure(handle, "memory")
        return SimpleNamespace(used=used, total=total, free=total - used)

    def nvmlDeviceGetUtilizationRates(self, handle: dict[str, Any]) -> Any:
        return SimpleNamespace(gpu=self._figure(handle, "utilisation"))

    def nvmlDeviceGetTemperature(self, handle: dict[str, Any], _sensor: int) -> Any:
        return self._figure(handle, "temperature")

    def nvmlDeviceGetPowerUsage(self, handle: dict[str, Any]) -> Any:
        return self._figure(handle, "power")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: dict[str, Any]) -> Any:
        return self._figure(handle, "throttle")

    def _figure(self, handle: dict[str, Any], name: str) -> Any:
        if name not in handle:
            raise self.NVMLError("Not Supported")
        return handle[name]


def gpu(letter: str, used: int = 0, **figures: Any) -> dict[str, Any]:
    return {"name": "H200", "uuid": f"GPU-{letter * 4}", "memory": (used * GIB, 80 * GIB)} | figures


TWO = FakeNvml(gpu("a", used=60), gpu("b", used=10))


def bound(nvml: FakeNvml, index: int | None, environ: dict[str, str]) -> GpuBinding:
    found = bind(index, nvml=nvml, environ=environ)
    assert isinstance(found, GpuBinding), found
    return found


def test_the_index_that_was_asked_for_is_bound_by_uuid() -> None:
    environ: dict[str, str] = {}
    assert bound(TWO, 0, environ) == GpuBinding("H200", 0, "GPU-aaaa", 80 * GIB)
    assert environ == {"CUDA_VISIBLE_DEVICES": "GPU-aaaa"}


def test_without_an_index_the_emptiest_gpu_is_taken_and_the_first_of_equals() -> None:
    assert bound(TWO, None, {}).index == 1
    assert bound(FakeNvml(gpu("a"), gpu("b")), None, {}).index == 0


@pytest.mark.parametrize("allowed", ["0", " 0 ", "GPU-aaaa", "GPU-aa"])
def test_only_a_gpu_that_the_environment_allows_is_taken(allowed: str) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": allowed}
    assert bound(TWO, None, environ).index == 0
    assert environ["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"


def test_a_slice_of_a_gpu_is_bound_and_what_it_hides_is_unknown() -> None:
    nvml = FakeNvml(gpu("a"), gpu("b"), slices={"MIG-s": 1})
    environ = {"CUDA_VISIBLE_DEVICES": "MIG-s"}
    binding = bound(nvml, None, environ)
    assert binding == GpuBinding("slice", 1, "MIG-s", None)
    assert environ == {"CUDA_VISIBLE_DEVICES": "MIG-s"}
    assert readings(binding, nvml=nvml) == GpuReadings(None, None, None, None, None)


@pytest.mark.parametrize(
    ("nvml", "index", "allowed", "reason"),
    [
        (FakeNvml(broken="Driver Not Loaded"), None, None, "Driver Not Loaded"),
        (FakeNvml(), None, None, "lists none"),
        (TWO, 7, None, "no GPU 7"),
        (TWO, 1, "0", "no GPU 1"),
        (TWO, None, "", "CUDA_VISIBLE_DEVICES="),
        (TWO, None, "-1", "CUDA_VISIBLE_DEVICES=-1"),
    ],
)
def test_no_gpu_is_an_answer_with_its_reason(
    nvml: FakeNvml, index: int | None, allowed: str | None, reason: str
) -> None:
    environ = {} if allowed is None else {"CUDA_VISIBLE_DEVICES": allowed}
    before = dict(environ)
    found = bind(index, nvml=nvml, environ=environ)
    assert isinstance(found, NoGpu)
    assert reason in found.reason
    assert environ == before


def test_all_readings_of_a_healthy_gpu() -> None:
    nvml = FakeNvml(gpu("a", used=3, utilisation=0, temperature=41, power=75_000, throttle=0x1))
    assert readings(bound(nvml, 0, {}), nvml=nvml) == GpuReadings(3 * GIB, 0, 41, 75_000, ())


def test_each_missing_reading_is_unknown_and_the_others_stay() -> None:
    nvml = FakeNvml(gpu("a", used=3, temperature=88, throttle=0x44))
    expected = GpuReadings(3 * GIB, None, 88, None, ("power cap", "thermal, hardware"))
    assert readings(bound(nvml, 0, {}), nvml=nvml) == expected


def test_a_gpu_that_fell_off_the_bus_reads_unknown() -> None:
    binding = bound(TWO, 0, {})
    assert readings(binding, nvml=FakeNvml()) == GpuReadings(None, None, None, None, None)


def test_the_binding_of_nvml_itself_on_this_machine_gives_an_answer() -> None:
    assert isinstance(bind(None, environ={}), (GpuBinding, NoGpu))


@pytest.mark.gpu
def test_a_real_gpu_is_bound_and_read() -> None:
    environ = {name: value for name, value in os.environ.items() if name == "CUDA_VISIBLE_DEVICES"}
    binding = bind(None, environ=environ)
    if isinstance(binding, NoGpu):
        pytest.skip(binding.reason)
    assert environ["CUDA_VISIBLE_DEVICES"] == binding.uuid
    assert binding.memory_bytes is None or binding.memory_bytes > GIB
    now = readings(binding)
    assert now.temperature_c is None or 0 < now.temperature_c < 120
    assert now.memory_used_bytes is None or now.memory_used_bytes > 0
