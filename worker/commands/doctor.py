"""`doctor`: checks whether this machine can do what its settings ask for, and gives advice."""

import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from shared.contract import ContractError, parse_contract
from shared.protocol import PROTOCOL_VERSION, version_key
from worker.api.client import ClientError, CoordinatorClient, Unauthorized, program_version
from worker.api.errors import UPDATE_COMMAND
from worker.data.prepare import is_prepared
from worker.machine.gpu import Driver, DriverError, NvidiaDriver
from worker.machine.hardware import HardwareError, detect_machine, list_devices, try_torch
from worker.sandbox import SandboxUnavailable, choose_sandbox
from worker.settings import SettingsError, WorkerSettings, load_settings

MIB = 1024 * 1024
LEAST_MEMORY_MIB = 2048
LEAST_DISK_MIB = 4096
MODEL_SECONDS = 20.0
WRONG_CLOCK_SECONDS = 300.0


@dataclass(frozen=True)
class Check:
    """The result of one check: its finding, and advice if it is not `ok`."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def examine(flags: Mapping[str, Any], only: Collection[str] = (), driver: Driver | None = None) -> Iterator[Check]:
    """Yield all checks, or only the named ones, of the settings from these flags, the environment and the file.

    Raises SettingsError at once, also for an unknown check.
    """
    settings, driver = load_settings(flags), driver or NvidiaDriver()
    checks: dict[str, Callable[[], Check]] = {
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
    return (check() for name, check in checks.items() if not only or name in only)


def render_json(checks: list[Check]) -> str:
    """An array of checks."""
    return json.dumps([asdict(check) for check in checks], indent=1)


def render_text(check: Check) -> str:
    """A line for the finding, and one for the advice."""
    line = f"{'ok ' if check.ok else 'BAD'} {check.name:12} {check.found}"
    return line if check.ok or not check.advice else f"{line}\n    {'':12} {check.advice}"


def _check_driver(settings: WorkerSettings, driver: Driver) -> Check:
    wants_gpu = (settings.device or "").startswith("cuda")
    try:
        report = driver.describe()
    except DriverError as error:
        if not wants_gpu:
            return Check("driver", True, "none; none is needed without a GPU")
        return Check("driver", False, "no GPU can be used", str(error))
    gpus = ", ".join(f"{gpu.index}: {gpu.model}, {gpu.memory_mib} MiB" for gpu in report.gpus) or "no GPU"
    return Check("driver", True, f"{report.version} for CUDA {'.'.join(map(str, report.cuda))} · {gpus}")


def _check_device(settings: WorkerSettings, driver: Driver) -> Check:
    if settings.device is None:
        return Check("device", False, "no device is given", "give --gpu 0 for the first GPU, or --device cpu")
    try:
        machines = [detect_machine(device, settings.cores, driver) for device in list_devices(settings.device, driver)]
    except HardwareError as error:
        return Check("device", False, f"{settings.device} cannot be used", str(error))
    return Check("device", True, " + ".join(machine.hardware.hardware_class for machine in machines))


def _check_torch(settings: WorkerSettings, driver: Driver) -> Check:
    """Try torch on each device in the sandbox, as a run does first."""
    try:
        for device in list_devices(settings.device or "cpu", driver):
            machine = detect_machine(device, None, driver)
            try_torch(choose_sandbox(settings.sandbox, machine.gpu), machine.device)
    except HardwareError as error:
        return Check("torch", False, "it does not work in the sandbox", str(error))
    except SandboxUnavailable:
        return Check("torch", False, "not tried", "repair the sandbox first")
    return Check("torch", True, f"{machine.hardware.torch_version} works in the sandbox on {device}")


def _check_memory() -> Check:
    available = psutil.virtual_memory().available // MIB
    advice = f"a run needs about {LEAST_MEMORY_MIB} MiB: close other programs"
    return Check("memory", available >= LEAST_MEMORY_MIB, f"{available} MiB available", advice)


def _check_disk(settings: WorkerSettings) -> Check:
    data = next(path for path in (settings.data_dir, *settings.data_dir.absolute().parents) if path.exists())
    free_mib = {folder: shutil.disk_usage(folder).free // MIB for folder in (data, Path(tempfile.gettempdir()))}
    advice = f"data and logs need about {LEAST_DISK_MIB} MiB: free some space, or choose another folder with --data-dir"
    found = ", ".join(f"{free} MiB free in {folder}" for folder, free in free_mib.items())
    return Check("disk", free_mib[data] >= LEAST_DISK_MIB, found, advice)


def _check_sandbox(settings: WorkerSettings) -> Check:
    try:
        name = choose_sandbox(settings.sandbox).name
    except SandboxUnavailable as error:
        return Check("sandbox", False, f"{settings.sandbox} does not work", str(error))
    return Check(
        "sandbox", True, name if name != "unconfined" else "unconfined: strangers' code runs with all your rights"
    )


def _check_coordinator(settings: WorkerSettings) -> Check:
    url = settings.coordinator_url
    try:
        client = CoordinatorClient(url, settings.read_token())
    except SettingsError as error:
        return Check("coordinator", False, "no token", str(error))
    try:
        client.check_token()
        versions = client.read_versions()
    except Unauthorized as error:
        return Check("coordinator", False, f"{url} does not accept the token: {error}", "swarm-worker login")
    except ClientError as error:
        return Check("coordinator", False, str(error), "is it running, and is the address right? --coordinator")
    finally:
        client.close()
    found = f"{url} accepts the token; it is of version {versions.version}, this worker of {program_version()}"
    fits = versions.oldest_protocol <= PROTOCOL_VERSION <= versions.protocol
    fits = fits and version_key(program_version()) >= version_key(versions.oldest_worker)
    return Check("coordinator", fits, found, f"it gives no jobs to this version: {UPDATE_COMMAND}")


def _check_clock(settings: WorkerSettings) -> Check:
    client = _public_client(settings)
    try:
        client.read_versions()
    except ClientError:
        return Check("clock", True, "not compared: the coordinator does not answer")
    finally:
        client.close()
    error = client.clock_error_seconds
    found = f"{abs(error):.0f} s {'ahead of' if error > 0 else 'behind'} the coordinator's"
    return Check("clock", abs(error) < WRONG_CLOCK_SECONDS, found, "set it: timedatectl set-ntp true")


def _check_data(settings: WorkerSettings) -> Check:
    """Report which projects' data is prepared. Missing data is no fault: the first run prepares it."""
    client = _public_client(settings)
    try:
        states = {
            project.name: is_prepared(
                parse_contract(project.contract),
                client.fetch_files(project.name, project.root_sha).files,
                settings.data_dir / "data",
            )
            for project in client.list_projects()
            if settings.project in (None, project.name)
        }
    except (ClientError, ContractError):
        return Check("data", True, "not checked: the coordinator does not answer")
    finally:
        client.close()
    ready = [name for name, is_ready in states.items() if is_ready]
    missing = [name for name, is_ready in states.items() if not is_ready]
    found = [f"ready: {', '.join(ready)}"] if ready else []
    found += [f"not yet: {', '.join(missing)} (`swarm-worker prepare NAME`, or a first run does it)"] if missing else []
    return Check("data", True, " · ".join(found) or "the coordinator has no project")


def _public_client(settings: WorkerSettings) -> CoordinatorClient:
    """A client for public data, which needs no token."""
    return CoordinatorClient(settings.coordinator_url, None)


def _check_agent(settings: WorkerSettings) -> Check:
    if settings.agent == "openai":
        return _check_model(settings)
    if settings.agent == "command":
        words = shlex.split(settings.agent_command or "")
        if not words or shutil.which(words[0]) is None:
            return Check(
                "agent", False, f"no program {words[0] if words else ''}", "--agent-command 'tool {prompt_file}'"
            )
        return Check("agent", True, f"command {Path(words[0]).name}")
    return Check("agent", True, settings.agent)


def _check_model(settings: WorkerSettings) -> Check:
    from worker.agents.chat import Chat, ChatError  # noqa: PLC0415 - takes a second, and only this agent needs it

    if settings.model is None:
        return Check("agent", False, "openai without a model", "--model NAME")
    try:
        chat = Chat(settings.base_url, settings.model, settings.read_api_key(), MODEL_SECONDS)
    except SettingsError as error:
        return Check("agent", False, "the model's key cannot be read", str(error))
    try:
        models = chat.list_models()
    except ChatError as error:
        return Check("agent", False, str(error), f"is {settings.base_url} right, and SWARM_API_KEY_FILE?")
    known = settings.model in models or not models
    return Check("agent", known, f"openai {settings.model}", f"the endpoint has: {', '.join(models[:10])}")
