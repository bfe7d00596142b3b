"""`doctor`: checks whether this machine can do what its settings ask for, and gives advice."""

import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from shared.contract import ContractError, parse_contract
from shared.faults import find_fault
from shared.protocol import PROTOCOL_VERSION, version_key
from shared.runs import RunLimit
from shared.seeds import SEEDS_FOLDER, read_seed
from worker.agents.base import AgentError
from worker.api.client import (
    UPDATE_COMMAND,
    AccountStopped,
    ClientError,
    CoordinatorClient,
    Unauthorized,
    program_version,
)
from worker.data.prepare import PreparedData, is_prepared
from worker.loop.stop import Stop
from worker.machine.gpu import Driver, DriverError, NvidiaDriver
from worker.machine.hardware import HardwareError, Machine, detect_machine, list_devices
from worker.machine.probe import CPU_STEPS, GPU_STEPS, SHORT_STEPS, Check, try_device, try_steps
from worker.runs.harness_protocol import DataPrepared
from worker.runs.runner import try_out
from worker.runs.spec import RunImpossible, RunProgress, RunSpec
from worker.sandbox.base import MIB, Sandbox, SandboxUnavailable
from worker.sandbox.bubblewrap import CACHES_GAP, BubblewrapSandbox
from worker.sandbox.choose import choose_sandbox
from worker.sandbox.landlock import GAPS, LandlockSandbox
from worker.settings import SettingsError, WorkerSettings, load_settings
from worker.start import refuse_unread

LEAST_MEMORY_MIB = 2048
LEAST_DISK_MIB = 4096
SEED_SECONDS, SEED_BYTES = 20.0, 4 * MIB
LOG_ADVICE = "no known fault; please report it with these lines and those of `nvidia-smi`"


class CheckFailed(Exception):
    """A check failed: the finding, and advice."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


def examine(
    flags: Mapping[str, Any],
    only: Collection[str] = (),
    driver: Driver | None = None,
    deep: bool = False,
    seed_seconds: float = SEED_SECONDS,
) -> Iterator[Check]:
    """Yield all checks, or only the named ones, of the settings with these flags; and with `deep` those of each device
    in the sandbox, the seed's training for `seed_seconds` among them. Raises SettingsError at once.
    """
    settings, driver = load_settings(flags), driver or NvidiaDriver()
    refuse_unread(settings, flags)
    checks: dict[str, Callable[[], str]] = {
        "driver": lambda: _check_driver(settings, driver),
        "device": lambda: _check_device(settings, driver),
        "torch": lambda: _check_torch(settings, driver),
        "memory": _check_memory,
        "disk": lambda: _check_disk(settings),
        "sandbox": lambda: _check_sandbox(settings),
        "coordinator": lambda: _check_coordinator(settings),
        "clock": lambda: _check_clock(settings),
        "data": lambda: _check_data(settings),
        "agent": lambda: _check_agent(settings),
    }
    if unknown := set(only) - checks.keys():
        raise SettingsError(f"there is no check {unknown.pop()!r}; the checks are {', '.join(checks)}")
    shallow = (_make(name, check) for name, check in checks.items() if not only or name in only)
    return chain(shallow, _examine_deeply(settings, driver, seed_seconds)) if deep else shallow


def _make(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except CheckFailed as failure:
        return Check(name, False, str(failure), failure.advice)


def _require(ok: bool, found: str, advice: str) -> str:
    """The finding. Raises CheckFailed if it is not `ok`."""
    if not ok:
        raise CheckFailed(found, advice)
    return found


def _check_driver(settings: WorkerSettings, driver: Driver) -> str:
    try:
        report = driver.describe()
    except DriverError as error:
        if (settings.device or "").startswith("cuda"):
            raise CheckFailed("no GPU can be used", str(error)) from error
        return "none; none is needed without a GPU"
    gpus = ", ".join(f"{gpu.index}: {gpu.model}, {gpu.memory_mib} MiB" for gpu in report.gpus) or "no GPU"
    return f"{report.version} for CUDA {'.'.join(map(str, report.cuda))} · {gpus}"


def _check_device(settings: WorkerSettings, driver: Driver) -> str:
    if settings.device is None:
        raise CheckFailed("no device is given", "give --gpu 0 for the first GPU, or --device cpu")
    try:
        devices = list_devices(settings.device, driver, settings.cuda_visible_devices)
        machines = [detect_machine(device, settings.cores, driver) for device in devices]
    except HardwareError as error:
        raise CheckFailed(f"{settings.device} cannot be used", str(error)) from error
    return " + ".join(machine.hardware.hardware_class for machine in machines)


def _check_torch(settings: WorkerSettings, driver: Driver) -> str:
    """Try torch on each device in the sandbox, as a run does first."""
    try:
        for device in list_devices(settings.device or "cpu", driver, settings.cuda_visible_devices):
            machine = detect_machine(device, None, driver)
            steps = CPU_STEPS[:1] if machine.gpu is None else SHORT_STEPS
            try_device(choose_sandbox(settings.sandbox, machine.gpu), machine.device, steps)
    except HardwareError as error:
        raise CheckFailed("it does not work in the sandbox", str(error)) from error
    except SandboxUnavailable as error:
        raise CheckFailed("not tried", "repair the sandbox first") from error
    return f"{machine.hardware.torch_version} works in the sandbox on {device}"


def _examine_deeply(settings: WorkerSettings, driver: Driver, seed_seconds: float) -> Iterator[Check]:
    """Each step that a run takes on each device, in the sandbox and within a run's limits."""
    try:
        for device in list_devices(settings.device or "cpu", driver, settings.cuda_visible_devices):
            machine = detect_machine(device, settings.cores, driver)
            sandbox = choose_sandbox(settings.sandbox, machine.gpu)
            if machine.gpu is not None:
                yield Check("mode", True, f"{device}: compute mode DEFAULT, not split by MIG")  # others are refused
            for step in try_steps(sandbox, machine.device, CPU_STEPS if machine.gpu is None else GPU_STEPS):
                yield step if step.ok or step.advice else replace(step, advice=LOG_ADVICE)
            yield _make("seed", lambda: _try_seed(machine, sandbox, seed_seconds))  # noqa: B023 - called at once
    except (HardwareError, SandboxUnavailable) as error:
        yield Check("deep", False, "not tried", str(error))


def _try_seed(machine: Machine, sandbox: Sandbox, seconds: float) -> str:
    """Train the package's own seed on random tokens, then load the result as a host does."""
    contract, files = read_seed(SEEDS_FOLDER / ("gpt-cpu" if machine.gpu is None else "gpt"))
    commands = contract.commands.model_copy(update={"substitute": None, "holdout": None})
    vocabulary, length = (int(contract.data.settings[key]) for key in ("vocab_size", "sequence_length"))
    seen: list[RunProgress] = []
    with tempfile.TemporaryDirectory() as name:
        train, validation = Path(name, "train"), Path(name, "validation")
        train.write_bytes(array("H", (n % vocabulary for n in array("H", os.urandom(SEED_BYTES)))).tobytes())
        validation.write_bytes(bytes(1))  # no scorer reads it
        facts = {"vocab_size": vocabulary, "sequence_length": length, "rows": 1}
        needs = DataPrepared(facts=facts, request_bytes=8 * (2 + length), answer_bytes=4 * length * vocabulary)
        spec = RunSpec(
            files=files, commit_sha="0" * 40, contract=contract.model_copy(update={"commands": commands}), seed=1,
            device=machine.device, cores=machine.hardware.cores, data=PreparedData(train, validation, needs),
            sandbox=sandbox, hardware=machine.hardware, folder=Path(name),
        )  # fmt: skip
        try:
            failed = try_out(spec, seconds, Event(), seen.append)
        except RunImpossible as error:
            raise CheckFailed("it does not start", str(error)) from error
    if failed is not None:
        fault = find_fault(failed.reason, failed.log_tail)
        raise CheckFailed(failed.reason, fault.advice if fault else LOG_ADVICE)
    last = max(seen, key=lambda progress: (progress.tokens, progress.tokens_per_second))
    speed = f"{last.tokens_per_second:,.0f} tokens/s, {last.step} steps, {last.peak_memory_mib} MiB"
    return f"{contract.project.name} trains in {sandbox.name}: {speed} in {seconds:g} s"


def _check_memory() -> str:
    available = psutil.virtual_memory().available // MIB
    advice = f"a run needs about {LEAST_MEMORY_MIB} MiB: close other programs"
    return _require(available >= LEAST_MEMORY_MIB, f"{available} MiB available", advice)


def _check_disk(settings: WorkerSettings) -> str:
    data = next(path for path in (settings.data_dir, *settings.data_dir.absolute().parents) if path.exists())
    free_mib = {folder: shutil.disk_usage(folder).free // MIB for folder in (data, Path(tempfile.gettempdir()))}
    advice = f"data and logs need about {LEAST_DISK_MIB} MiB: free some space, or choose another folder with --data-dir"
    found = ", ".join(f"{free} MiB free in {folder}" for folder, free in free_mib.items())
    return _require(free_mib[data] >= LEAST_DISK_MIB, found, advice)


def _check_sandbox(settings: WorkerSettings) -> str:
    try:
        sandbox = choose_sandbox(settings.sandbox)
    except SandboxUnavailable as error:
        raise CheckFailed(f"{settings.sandbox} does not work", str(error)) from error
    if not sandbox.limits:
        return f"{sandbox.name}: strangers' code runs with all your rights, and holds its limits only if it wants to"
    return f"{sandbox.name} · {', '.join(limit.replace('_', ' ') for limit in sandbox.limits)}{_describe_gaps(sandbox)}"


def _describe_gaps(sandbox: Sandbox) -> str:
    if isinstance(sandbox, LandlockSandbox):
        return f"; not covered: {GAPS}"
    if isinstance(sandbox, BubblewrapSandbox) and RunLimit.CACHES_EMPTIED not in sandbox.limits:
        return f"; not covered: {CACHES_GAP}"
    return ""


def _check_coordinator(settings: WorkerSettings) -> str:
    try:
        url = settings.require_coordinator()
    except SettingsError as error:
        raise CheckFailed("none is given", str(error)) from error
    try:
        with closing(CoordinatorClient(url, settings.read_token())) as client:
            account = client.fetch_account()
            versions = client.read_versions()
    except SettingsError as error:
        raise CheckFailed("no token", str(error)) from error
    except AccountStopped as error:
        raise CheckFailed(str(error), "ask a maintainer; nothing is wrong with this machine") from error
    except Unauthorized as error:
        raise CheckFailed(f"{url} does not accept the token: {error}", settings.advise_login()) from error
    except ClientError as error:
        raise CheckFailed(str(error), "is it running, and is the address right? --coordinator") from error
    found = (
        f"{url} accepts the token of {account.volunteer}; it is of version {versions.version}, this worker of "
        f"{program_version()}"
    )
    fits = versions.oldest_protocol <= PROTOCOL_VERSION <= versions.protocol
    fits = fits and version_key(program_version()) >= version_key(versions.oldest_worker)
    return _require(fits, found, f"it gives no jobs to this version: {UPDATE_COMMAND}")


def _check_clock(settings: WorkerSettings) -> str:
    try:
        with closing(CoordinatorClient(settings.require_coordinator(), None)) as client:
            client.read_versions()
    except (ClientError, SettingsError):
        return "not compared: the coordinator does not answer"
    off = client.wrong_clock
    return _require(off is None, off or "agrees with the coordinator's", "set it: timedatectl set-ntp true")


def _check_data(settings: WorkerSettings) -> str:
    """Report which projects' data is prepared. Missing data is no fault: the first run prepares it."""
    names: dict[bool, list[str]] = {True: [], False: []}
    try:
        with closing(CoordinatorClient(settings.require_coordinator(), None)) as client:
            for project in client.list_projects():
                if settings.project in (None, project.name):
                    files = client.fetch_files(project.name, project.root_sha).files
                    is_ready = is_prepared(parse_contract(project.contract), files, settings.data_dir / "data")
                    names[is_ready].append(project.name)
    except (ClientError, ContractError, SettingsError):
        return "not checked: the coordinator does not answer"
    ready, missing = ", ".join(names[True]), ", ".join(names[False])
    parts = [f"ready: {ready}"] if ready else []
    parts += [f"not yet: {missing} (`swarm-worker prepare NAME`, or a first run does it)"] if missing else []
    return " · ".join(parts) or "the coordinator has no project"


def _check_agent(settings: WorkerSettings) -> str:
    """Let the agent do something small: a real answer of the model, a real run of the tool."""
    from worker.agents.composite import make_agent  # noqa: PLC0415 - takes a second, and only this check needs it

    if settings.agent == "scripted":
        return settings.agent
    try:
        return make_agent(settings, list[str]().append, Stop()).check()
    except (AgentError, SettingsError) as error:
        raise CheckFailed(str(error), "see `swarm-worker run --help` for its settings") from error
    except (ImportError, OSError) as error:
        raise CheckFailed(f"{settings.agent} cannot be used", str(error)) from error
