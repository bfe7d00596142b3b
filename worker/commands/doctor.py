"""`doctor`: whether this machine can do what its settings ask for, and what to do where it cannot."""

import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from worker.client import ClientError, CoordinatorClient, Unauthorized
from worker.hardware import HardwareError, detect_hardware
from worker.sandbox import SandboxUnavailable, choose_sandbox
from worker.settings import Settings, SettingsError, load_settings

MIB = 1024 * 1024
LEAST_MEMORY_MIB = 2048
LEAST_DISK_MIB = 4096
MODEL_SECONDS = 20.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, and what to do where that is not `ok`."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def examine(flags: Mapping[str, Any]) -> list[Check]:
    """All checks, of the settings that these flags, the environment and the file give. Raises SettingsError."""
    settings = load_settings(flags)
    parts: list[Callable[[Settings], Check]] = [
        _check_device, _check_memory, _check_disk, _check_sandbox, _check_coordinator, _check_data, _check_agent,
    ]  # fmt: skip
    return [part(settings) for part in parts]


def render_json(checks: list[Check]) -> str:
    """An array of checks."""
    return json.dumps([asdict(check) for check in checks], indent=1)


def render_text(checks: list[Check]) -> str:
    """A line for each check, and one for what to do."""
    return "\n".join(line for check in checks for line in _lines(check))


def _lines(check: Check) -> Iterator[str]:
    yield f"{'ok ' if check.ok else 'BAD'} {check.name:12} {check.found}"
    if not check.ok and check.advice:
        yield f"    {'':12} {check.advice}"


def _check_device(settings: Settings) -> Check:
    if settings.device is None:
        return Check("device", False, "none is asked for", "give --gpu 0 for the first GPU, or --device cpu")
    try:
        hardware = detect_hardware(settings.device, settings.cores)
    except HardwareError as error:
        return Check("device", False, f"{settings.device} cannot be used", str(error))
    return Check("device", True, f"{hardware.hardware_class} · torch {hardware.torch_version}")


def _check_memory(settings: Settings) -> Check:  # noqa: ARG001 - one form for all checks
    available = psutil.virtual_memory().available // MIB
    advice = f"a run needs about {LEAST_MEMORY_MIB} MiB: end other programs"
    return Check("memory", available >= LEAST_MEMORY_MIB, f"{available} MiB available", advice)


def _check_disk(settings: Settings) -> Check:
    folder = next(path for path in (settings.data_dir, *settings.data_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free // MIB
    advice = f"data and logs need about {LEAST_DISK_MIB} MiB: make room, or choose another folder with --data-dir"
    return Check("disk", free >= LEAST_DISK_MIB, f"{free} MiB free in {folder}", advice)


def _check_sandbox(settings: Settings) -> Check:
    try:
        name = choose_sandbox(settings.sandbox).name
    except SandboxUnavailable as error:
        return Check("sandbox", False, f"{settings.sandbox} does not work", str(error))
    return Check("sandbox", True, name if name != "unconfined" else "unconfined: strangers' code has all your rights")


def _check_coordinator(settings: Settings) -> Check:
    url = settings.coordinator_url
    try:
        client = CoordinatorClient(url, settings.read_token())
    except SettingsError as error:
        return Check("coordinator", False, "no token", str(error))
    try:
        client.check_token()
    except Unauthorized as error:
        return Check("coordinator", False, f"{url} does not accept the token: {error}", "swarm-worker login")
    except ClientError as error:
        return Check("coordinator", False, str(error), "is it running, and is the address right? --coordinator")
    finally:
        client.close()
    return Check("coordinator", True, f"{url} accepts the token")


def _check_data(settings: Settings) -> Check:
    folder = settings.data_dir / "data" / "tokens"
    prepared = sorted(path.name.rpartition("-")[0] for path in folder.glob("*") if path.is_dir())
    return Check("data", True, f"prepared: {', '.join(prepared)}" if prepared else "none yet: a first run prepares it")


def _check_agent(settings: Settings) -> Check:
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


def _check_model(settings: Settings) -> Check:
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
    finally:
        chat.close()
    known = settings.model in models or not models
    return Check("agent", known, f"openai {settings.model}", f"the endpoint has: {', '.join(models[:10])}")
