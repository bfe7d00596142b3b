"""Facts about the device a worker trains on, found without importing torch."""

import importlib.metadata
import os
import platform
from pathlib import Path

import psutil
import pynvml

from shared.hardware import DeviceKind, Hardware

MIB = 1024 * 1024
CPU_INFO = Path("/proc/cpuinfo")

ISA_BY_FLAG = (("avx512f", "avx512"), ("avx2", "avx2"), ("asimddp", "asimddp"), ("asimd", "asimd"))
"""Flags of /proc/cpuinfo that decide how fast torch's matrices are, best first, and their name in a class."""


class HardwareError(RuntimeError):
    """The device asked for is not usable; the message is one line that says what to do."""


def detect_hardware(device: str, cores: int | None = None) -> Hardware:
    """Describe `device` (`cpu` or `cuda:<index>`), of which the worker may use `cores` CPU cores (None: all it has).

    Raises HardwareError if the device is not there, if fewer cores are, or if torch is missing.
    """
    available = len(os.sched_getaffinity(0))
    if cores is not None and not 1 <= cores <= available:
        raise HardwareError(f"{cores} CPU cores were asked for; this process may use {available}")
    torch_version = _torch_version()
    if device == "cpu":
        return _describe_cpu(cores or available, torch_version)
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index.isdecimal():
        raise HardwareError(f"there is no device {device!r}: use `--device cpu`, or `--gpu N`")
    if torch_version.endswith("+cpu"):
        raise HardwareError(f"torch {torch_version} cannot use a GPU: install a CUDA build, or use `--device cpu`")
    return _describe_gpu(int(index), cores or available, torch_version)


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError as error:
        raise HardwareError("torch is not installed: `pip install 'research-swarm[worker]'`") from error


def _describe_cpu(cores: int, torch_version: str) -> Hardware:
    info = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    facts = {key.strip().lower(): value.strip() for key, value in fields.items()}
    flags = facts.get("flags", facts.get("features", "")).split()
    level = next((name for flag, name in ISA_BY_FLAG if flag in flags), "")
    return Hardware(
        kind=DeviceKind.CPU,
        model=(facts.get("model name") or platform.processor() or platform.machine())[:120],
        memory_mib=psutil.virtual_memory().total // MIB,
        cores=cores,
        isa="-".join(part for part in (platform.machine(), level) if part)[:60],
        torch_version=torch_version,
    )


def _describe_gpu(index: int, cores: int, torch_version: str) -> Hardware:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise HardwareError(
            f"no NVIDIA driver answers ({error}): install it, or use `--device cpu` to train on the processor"
        ) from error
    try:
        count = pynvml.nvmlDeviceGetCount()
        if index >= count:
            raise HardwareError(f"there is no GPU {index}: this machine has {count}, counted from 0")
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Hardware(
            kind=DeviceKind.CUDA,
            model=pynvml.nvmlDeviceGetName(gpu)[:120],
            memory_mib=pynvml.nvmlDeviceGetMemoryInfo(gpu).total // MIB,
            cores=cores,
            power_cap_watts=_power_cap_watts(gpu),
            torch_version=torch_version,
            precision="bfloat16",
        )
    except pynvml.NVMLError as error:
        raise HardwareError(f"the NVIDIA driver does not describe GPU {index}: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def _power_cap_watts(gpu: object) -> int | None:
    """The enforced power limit, or None where the GPU has none."""
    try:
        return int(pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu)) // 1000
    except pynvml.NVMLError_NotSupported:
        return None
