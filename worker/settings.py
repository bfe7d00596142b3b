"""Settings of a worker: flags, then the environment (`SWARM_*`), then `config.toml` of the platform's user folder.

The token is never a flag: other users of a machine can read a process's command line.
"""

import json
import os
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shared.addresses import complete_address
from shared.environment import WORKER_NAMES, describe_unknown
from shared.protocol import Slug
from worker.commands.options import ExitStatus, WorkerCommandError
from worker.commands.setting_errors import describe_error
from worker.loop.availability import parse_schedule
from worker.sandbox.choose import SandboxName

APPLICATION = "research-swarm"
MAX_OUTPUT_TOKENS = 16_000
NO_KEY = SecretStr("none-is-set")
"""For an endpoint that wants no key: the SDK wants one."""

AgentName = Literal["search", "scripted", "openai", "command", "claude", "codex", "gemini", "opencode", "aider"]
Device = Annotated[str, StringConstraints(pattern=r"^(cpu|cuda:(all|\d{1,3}(,\d{1,3})*))$")]
"""`cuda:0`, or several: `cuda:0,1`, `cuda:all`."""


MAX_NOTES_CHARACTERS = 8000
"""Length of the volunteer's notes, which go with each prompt."""


class SettingsError(WorkerCommandError):
    """A setting is wrong or missing; the message names it and shows no secret."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitStatus.USAGE)


def config_path() -> Path:
    """The path of `config.toml`."""
    return platformdirs.user_config_path(APPLICATION) / "config.toml"


def login_path() -> Path:
    """The path of the token that `swarm-worker login` stores; used if no other is set."""
    return config_path().with_name("token")


@dataclass(frozen=True)
class Mirrors:
    """Replacements for public places (None: the public one): a simple package index, and a folder for `base_url`."""

    package_index: str | None = None
    data: str | None = None


PUBLIC_PLACES = Mirrors()


@dataclass(frozen=True)
class RunOptions:
    """The command line of one start, besides the settings; `parent` is the process that started this one."""

    script: Path | None = None
    once: bool = False
    max_jobs: int | None = None
    plain: bool = False
    no_color: bool = False
    parent: int | None = None


class WorkerSettings(BaseSettings):
    """One worker. `cores` bounds the CPU cores it may use (None: all); `project` None takes any project's jobs. Of
    several GPUs it may use `cuda_visible_devices`, as a scheduler says (None: all). It limits its GPU's power to
    `max_watts`, and pauses while that is hotter than `max_celsius`, and while a battery is in use, unless it may work
    `on_battery`.

    While the coordinator does not answer, the worker asks after `shortest_wait_seconds` to `longest_wait_seconds`, and
    works offline after `alone_after_seconds`. `base_url` and later settings are for `openai` and coding tools: prices
    are per million tokens, an answer has at most `max_output_tokens` and `request_seconds` (None: as long as a draft
    may take), `notes` is a file that goes with each prompt, and a tool may see the paths `agent_paths` and the
    variables `agent_environment`.
    """

    model_config = SettingsConfigDict(
        env_prefix="SWARM_", env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    coordinator_url: str = ""
    token: SecretStr | None = None
    token_file: Path | None = None
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)] = Field(
        default_factory=lambda: socket.gethostname()[:60] or "worker"
    )
    device: Device | None = None
    cuda_visible_devices: str | None = Field(
        default=None, validation_alias=AliasChoices("cuda_visible_devices", "CUDA_VISIBLE_DEVICES")
    )
    cores: Annotated[int, Field(ge=1)] | None = None
    nice: Annotated[int, Field(ge=0, le=19)] | None = None
    schedule: str | None = None
    when_idle: bool = False
    max_celsius: Annotated[int, Field(ge=40, le=110)] | None = None
    max_watts: Annotated[int, Field(ge=10, le=2000)] | None = None
    on_battery: bool = False
    alone_after_seconds: Annotated[float, Field(ge=0)] = 60.0
    shortest_wait_seconds: Annotated[float, Field(gt=0)] = 5.0
    longest_wait_seconds: Annotated[float, Field(gt=0)] = 300.0
    sandbox: SandboxName = "auto"
    agent: AgentName = "search"
    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path(APPLICATION))
    project: Slug | None = None
    branch: Slug | None = None
    package_index: str | None = Field(
        default=None, validation_alias=AliasChoices("package_index", "SWARM_PACKAGE_INDEX", "PIP_INDEX_URL")
    )
    data_mirror: Annotated[str, StringConstraints(pattern=r"^https?://.+$")] | None = None

    base_url: str = "https://api.openai.com/v1"
    model: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)] | None = None
    api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("api_key", "SWARM_API_KEY", "OPENAI_API_KEY")
    )
    api_key_file: Path | None = None
    tokens_per_experiment: Annotated[int, Field(ge=1)] | None = 200_000
    tokens_per_day: Annotated[int, Field(ge=1)] | None = 5_000_000
    cost_per_experiment: Annotated[float, Field(gt=0)] | None = None
    cost_per_day: Annotated[float, Field(gt=0)] | None = None
    input_price: Annotated[float, Field(ge=0)] | None = None
    output_price: Annotated[float, Field(ge=0)] | None = None
    notes: Path | None = None
    agent_command: str | None = None
    agent_paths: Annotated[list[str], NoDecode] = []
    agent_environment: Annotated[list[str], NoDecode] = []
    max_output_tokens: Annotated[int, Field(ge=256)] = MAX_OUTPUT_TOKENS
    request_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    agent_seconds: Annotated[float, Field(gt=0, le=280)] = 240.0

    @field_validator("coordinator_url", "base_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return complete_address(url) if url else url

    @field_validator("agent_paths", "agent_environment", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """A list from the environment: JSON, or words with commas between them."""
        if not isinstance(given, str):
            return given
        return json.loads(given) if given.lstrip().startswith("[") else [part.strip() for part in given.split(",")]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class passes it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class passes it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, `config.toml`; no `.env` of whatever folder one stands in, and no secrets folder."""
        return init_settings, env_settings, _ConfigFile(settings_cls, config_path())

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, text: str | None) -> str | None:
        if text is not None:
            parse_schedule(text)
        return text

    @property
    def worker_name(self) -> str:
        """The worker's name at the coordinator: the machine's and the device's."""
        return f"{self.name}-{(self.device or 'none').replace('cuda:', 'gpu')}"

    @property
    def worker_folder(self) -> Path:
        """This worker's folder, with its lock and a folder for each coordinator."""
        return self.data_dir / "workers" / folder_name(self.worker_name)

    def require_coordinator(self) -> str:
        """The coordinator's address. Raises SettingsError if none is given."""
        if not self.coordinator_url:
            raise SettingsError(
                "no coordinator is given: --coordinator https://swarm.example.org, or SWARM_COORDINATOR_URL; "
                "`swarm-worker login --coordinator` keeps it"
            )
        return self.coordinator_url

    def read_agent_environment(self, names: Sequence[str]) -> dict[str, str]:
        """The environment of a coding tool: what all programs need, `names`, and `agent_environment`, where set."""
        wanted = ("HOME", "LANG", "PATH", *names, *self.agent_environment)
        return {name: os.environ[name] for name in wanted if os.environ.get(name)}

    def read_notes(self) -> str:
        """The volunteer's notes for the agent, or an empty text. Raises SettingsError if they cannot be read."""
        if self.notes is None:
            return ""
        try:
            text = self.notes.expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"the setting 'notes' is wrong: {self.notes} cannot be read: {_reason(error)}"
            ) from error
        if len(text) > MAX_NOTES_CHARACTERS:
            raise SettingsError(
                f"the setting 'notes' is wrong: {self.notes} has {len(text):,} characters, and at most "
                f"{MAX_NOTES_CHARACTERS:,} go with each prompt"
            )
        return text

    def read_api_key(self) -> SecretStr:
        """The key of the model endpoint, or a placeholder. Raises SettingsError for an unreadable or public file."""
        if self.api_key is not None:
            return check_token(self.api_key.get_secret_value(), "the setting 'api_key' (SWARM_API_KEY)")
        if self.api_key_file is None:
            return NO_KEY
        path = self.api_key_file.expanduser()
        try:
            is_public = bool(path.stat().st_mode & 0o077)
        except OSError as error:
            raise SettingsError(f"cannot read the key's file {path}: {_reason(error)}") from error
        if is_public:
            raise SettingsError(f"others can read the key's file {path}: chmod 600 {path}")
        return _read_secret(path, "key")

    @property
    def mirrors(self) -> Mirrors:
        """Replacements for the public package index and a contract's `base_url`."""
        return Mirrors(self.package_index, self.data_mirror)

    def read_token(self) -> SecretStr:
        """The token. Raises SettingsError if there is none."""
        if self.token is not None:
            return check_token(self.token.get_secret_value(), "the setting 'token' (SWARM_TOKEN)")
        path = self.token_path
        if self.token_file is None and not path.exists():
            raise SettingsError(
                "there is no token: set SWARM_TOKEN_FILE to a file that holds it (or SWARM_TOKEN to the token itself), "
                "or store it: swarm-worker login"
            )
        return _read_secret(path, "token")

    @property
    def token_path(self) -> Path:
        """The file that holds the token, unless the setting `token` does."""
        return (self.token_file or login_path()).expanduser()

    def advise_login(self) -> str:
        """The advice for a token that the coordinator refuses."""
        where = ""
        if self.token is not None:
            where = "It stands in the setting 'token' (SWARM_TOKEN): remove it there. "
        elif self.token_file is not None:
            where = f"It stands in {self.token_file}: write another into that file, or leave out `token_file`. "
        return (
            f"{where}To go on, `swarm-worker login`; a code for it comes from your page ({self.coordinator_url}/me), "
            "from `swarm-worker tokens code` where you are logged in, or a token from a maintainer."
        )


def _read_secret(path: Path, what: str) -> SecretStr:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the {what}'s file {path}: {_reason(error)}") from error
    return check_token(text, f"the file {path}")


def check_token(text: str, source: str) -> SecretStr:
    """A token or key on one line. Raises SettingsError, which names `source`."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"{source} holds no token: it must be one line without spaces")
    return SecretStr(token)


class _ConfigFile(TomlConfigSettingsSource):
    """`config.toml`; a token or key from flags or environment, or its file, hides the one in `config.toml`."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        for name in ("token", "api_key"):
            both = {name, f"{name}_file"}
            if self.current_state.keys() & both:
                found = {key: value for key, value in found.items() if key not in both}
        return found


def load_settings(flags: Mapping[str, Any]) -> WorkerSettings:
    """The settings, from flags (None: not given), environment and file. Raises SettingsError."""
    if problem := describe_unknown(os.environ, WORKER_NAMES):
        raise SettingsError(problem)
    given = {key: value for key, value in flags.items() if value is not None}
    if "token_file" in given:
        given["token"] = None  # a flag comes before SWARM_TOKEN
    if "api_key_file" in given:
        given["api_key"] = None
    try:
        return WorkerSettings(**given)
    except ValidationError as error:
        name, why = describe_error(dict(error.errors()[0]), WorkerSettings.model_fields)
        raise SettingsError(f"the setting {name!r} is wrong: {why} ({_name_source(name, given)})") from error
    except (OSError, ValueError) as error:  # TOML's error is a kind of ValueError
        raise SettingsError(f"cannot read {config_path()}: {_reason(error)}") from error


def _name_source(name: str, flags: Mapping[str, Any]) -> str:
    """The place where a setting was given."""
    if name in flags:
        return "a flag"
    if name not in WorkerSettings.model_fields:
        return str(config_path())
    return next((variable for variable in _variables(name) if os.environ.get(variable)), str(config_path()))


def explain_settings(flags: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Each setting's name, its value with secrets masked, and its source. Raises SettingsError."""
    settings = load_settings(flags)
    given = {key for key, value in flags.items() if value is not None}
    in_file = set(tomllib.loads(config_path().read_text(encoding="utf-8"))) if config_path().exists() else set()
    stored = settings.token is None and settings.token_file is None and login_path().exists()
    rows = []
    for name in WorkerSettings.model_fields:
        value = getattr(settings, name)
        named = next((variable for variable in _variables(name) if os.environ.get(variable)), None)
        source = "default"
        if name in given:
            source = "flag"
        elif named is not None and value is not None:
            source = f"environment ({named})"
        elif name in in_file and value is not None:
            source = str(config_path())
        elif name == "token" and stored:
            value, source = SecretStr("stored"), f"swarm-worker login ({login_path()})"
        without_password = re.sub(r"://[^/@\s]+@", "://**********@", str(value))
        rows.append((name, "" if value is None else without_password, source))
    return rows


def list_variables() -> list[str]:
    """The names of this environment's variables that are settings, in order."""
    return sorted({name for field in WorkerSettings.model_fields for name in _variables(field)} & os.environ.keys())


def _variables(name: str) -> list[str]:
    """The environment variables of a setting, in order of precedence."""
    alias = WorkerSettings.model_fields[name].validation_alias
    choices = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []
    return [choice for choice in choices if choice.isupper()] or [f"SWARM_{name.upper()}"]


def folder_name(text: str) -> str:
    """A text as the name of a folder: letters, digits, dots and dashes, never hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-") or "worker"


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
