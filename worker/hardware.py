"""Facts about the device a worker trains on, found without importing torch."""

from shared.hardware import Hardware


class HardwareError(RuntimeError):
    """The device asked for is not usable; the message is one line that says what to do."""


def detect_hardware(device: str, cores: int | None = None) -> Hardware:
    """Describe `device` (`cpu` or `cuda:<index>`), of which the worker may use `cores` CPU cores (None: all it has).

    Raises HardwareError if the device is not there, if fewer cores are, or if torch is missing.
    """
    raise HardwareError(f"{device} with {cores} cores: not written yet")
