"""Keeps a GPU's power limit at `max_watts` or below while a worker runs, and sets the earlier one again at the end.

    power-limit-UUID    in the data folder, while a worker's limit is in force on that GPU: the earlier limit, and its

A process that is killed leaves the file, and the next one on that GPU sets the earlier limit again. A limit that
somebody else has set since then is left alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.machine.gpu import Driver, DriverError, PowerRefused
from worker.machine.hardware import HardwareError, Machine
from worker.sandbox.base import Gpu


@contextmanager
def hold_power_limit(driver: Driver, machine: Machine, most: int, folder: Path) -> Iterator[None]:
    """Limit a machine's GPU to `most` watts while the block runs; a limit that is as low already is left alone.

    Raises HardwareError where the limit cannot be set; the message says what to do.
    """
    assert machine.gpu is not None
    restore_power_limit(driver, machine.gpu, folder)
    kept = name_limit_file(machine.gpu, folder)
    try:
        _lower(driver, machine.gpu, machine.hardware.model, most, kept)
    except DriverError as error:
        kept.unlink(missing_ok=True)
        raise HardwareError(str(error)) from error
    try:
        yield
    finally:
        restore_power_limit(driver, machine.gpu, folder)


def _lower(driver: Driver, gpu: Gpu, model: str, most: int, kept: Path) -> None:
    """Lower a GPU's limit to `most` watts, after its present one is `kept`. Raises DriverError."""
    limit, otherwise = driver.read_power_limit(gpu), "or remove `max_watts` from the settings"
    if limit is None:
        raise DriverError(f"the power of the {model} cannot be limited: remove `max_watts` from the settings")
    if limit.watts <= most:
        return
    if most < limit.least:
        raise DriverError(f"the {model} takes no power limit below {limit.least} W: set `max_watts` to it, {otherwise}")
    kept.write_text(f"{limit.watts} {most}\n", encoding="utf-8")
    try:
        driver.set_power_limit(gpu, most)
    except PowerRefused as error:
        raise PowerRefused(
            f"the power limit of the {model} stays at {limit.watts} W, because only root may lower it: "
            f"`sudo nvidia-smi -i {gpu.uuid} -pl {most}` does, until the next restart (from a container, on its host); "
            f"then start the worker again, {otherwise}"
        ) from error
    if (after := driver.read_power_limit(gpu)) is None or after.watts > most:
        raise DriverError(
            f"the {model} forgets a power limit when nothing uses it: turn on its persistence mode (`sudo nvidia-smi "
            f"-i {gpu.uuid} -pm 1`), and start the worker again, {otherwise}"
        )


def restore_power_limit(driver: Driver, gpu: Gpu, folder: Path) -> None:
    """Set a GPU's earlier limit again, if a worker has changed it, and nobody else since then. One that the driver
    refuses now stays for the next start."""
    kept = name_limit_file(gpu, folder)
    with suppress(DriverError):
        with suppress(OSError, ValueError):
            earlier, ours = map(int, kept.read_text(encoding="utf-8").split())
            limit = driver.read_power_limit(gpu)
            if limit is not None and limit.watts == ours:
                driver.set_power_limit(gpu, earlier)
        kept.unlink(missing_ok=True)


def name_limit_file(gpu: Gpu, folder: Path) -> Path:
    return folder / f"power-limit-{gpu.uuid}"
