"""Which workers get jobs: those of a version that fits, on a device that the project fits on. Pure."""

from coordinator.leases.errors import ProtocolUnsupportedError
from shared.contract import Contract
from shared.hardware import DeviceKind, Hardware
from shared.protocol import Versions, version_key


def check_versions(protocol: int, version: str | None, ours: Versions) -> None:
    """Whether a worker that speaks `protocol` may have a job; `version` is its program's, None: it did not say.

    Raises ProtocolUnsupportedError.
    """
    if protocol > ours.protocol:
        raise ProtocolUnsupportedError(
            f"The worker speaks version {protocol} of the protocol, this coordinator {ours.protocol}: update the "
            "coordinator, or use an older worker.",
            ours,
        )
    if protocol < ours.oldest_protocol:
        raise ProtocolUnsupportedError(
            f"The worker speaks version {protocol} of the protocol, this coordinator {ours.oldest_protocol} or newer: "
            "update the worker.",
            ours,
        )
    if version is not None and version_key(version) < version_key(ours.oldest_worker):
        raise ProtocolUnsupportedError(
            f"The worker is of version {version}; this coordinator gives jobs to {ours.oldest_worker} or newer: "
            "update the worker.",
            ours,
        )


def why_unfit(contract: Contract, hardware: Hardware) -> str:
    """Why a project cannot run on this hardware, as a sentence; empty if it can."""
    needed, name = contract.limits.device_memory_mib, contract.project.name
    if needed is None:
        return ""
    if hardware.kind is not DeviceKind.CUDA:
        return f"The project {name} needs a GPU with {needed:,} MiB of memory, and this worker has none."
    if hardware.memory_mib < needed:
        return (
            f"The project {name} needs a GPU with {needed:,} MiB of memory; this one has {hardware.memory_mib:,} MiB."
        )
    return ""
