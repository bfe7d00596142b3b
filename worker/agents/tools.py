"""Makes a coding tool from the settings: its preset or the volunteer's command, its program, login and variables."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from worker.agents.command import Tool
from worker.agents.presets import PRESETS, SYSTEM_VARIABLES, ToolPreset
from worker.agents.programs import ProgramMissing, find_program_files
from worker.agents.tool_room import RoomSettings
from worker.sandbox.confinement import SYSTEM_FOLDERS
from worker.sandbox.tool import Mount
from worker.settings import SettingsError, WorkerSettings

PLAIN_OUTPUT = {"NO_COLOR": "1", "TERM": "dumb"}


def make_tool(settings: WorkerSettings, notify: Callable[[str], None]) -> Tool:
    """The tool of these settings. Raises SettingsError if its program, a path or its login is missing."""
    preset, home = PRESETS.get(settings.agent), Path.home()
    words = _read_command(settings, preset)
    variables = (*SYSTEM_VARIABLES, *((*preset.keys, *preset.variables, preset.folder_variable) if preset else ()))
    environment = {
        **PLAIN_OUTPUT,
        **(preset.environment if preset else {}),
        **settings.read_agent_environment(variables),
    }
    try:
        program = find_program_files(words[0], environment.get("PATH", ""))
    except ProgramMissing as error:
        problem = f"the {settings.agent} agent cannot start: {error}: install it, or give its path (--agent-command)"
        raise SettingsError(problem) from error
    mounts = [*(_list_mounts(preset, environment, home) if preset else ()), *map(_read_mount, settings.agent_paths)]
    for mount in mounts:
        for link, target in _outside_links(mount.path, [mount.path for mount in mounts]):
            notify(f"{link} leads to {target}, which the tool cannot see; if it needs that: --agent-path {target}")
    folder = _folder_of(preset, environment, home) if preset else None
    names = preset.protected if preset and folder and folder.exists() else ()
    files = tuple(folder / name for name in names if folder and not name.endswith("/"))
    more = preset.more_paths if preset else ()
    copied = (Path(place.replace("~", str(home))) for place in more if place.endswith("/"))
    folders = (*(folder / name for name in names if folder and name.endswith("/")), *filter(Path.is_dir, copied))
    room = RoomSettings(home, environment, tuple(mounts), program, files, folders)
    name = settings.agent if preset else f"command {Path(words[0]).name}"
    return Tool(
        name,
        [program.path, *words[1:]],
        room,
        settings.agent_seconds,
        settings.data_dir / "agent" / "said",
        preset,
        folder / preset.transcripts if preset and folder else None,
    )


def _read_command(settings: WorkerSettings, preset: ToolPreset | None) -> list[str]:
    try:
        words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in _split(settings, preset)]
    except (ValueError, RuntimeError) as error:
        raise SettingsError(f"the setting 'agent_command' is wrong: {error}") from error
    if not words:
        raise SettingsError("the command agent needs a command: --agent-command 'tool -p {prompt_file}'")
    return words


def _split(settings: WorkerSettings, preset: ToolPreset | None) -> list[str]:
    if settings.agent_command or preset is None:
        return shlex.split(settings.agent_command or "")
    # All of these tools take the model's name by this option, before other words.
    subcommand = 2 if preset.argv[1:2] and preset.argv[1] in ("exec", "run") else 1
    chosen = ("--model", settings.model) if settings.model else ()
    return [*preset.argv[:subcommand], *chosen, *preset.argv[subcommand:]]


def _folder_of(preset: ToolPreset, environment: dict[str, str], home: Path) -> Path:
    return Path(environment.get(preset.folder_variable) or preset.folder.replace("~", str(home))).absolute()


def _list_mounts(preset: ToolPreset, environment: dict[str, str], home: Path) -> Iterator[Mount]:
    """The preset's folder and its other paths, where they exist. Raises SettingsError if there is no login."""
    folder = _folder_of(preset, environment, home)
    logins = [Path(place.replace(preset.folder, str(folder)).replace("~", str(home))) for place in preset.logins]
    if not any(login.exists() for login in logins) and not any(environment.get(key) for key in preset.keys):
        places = " or ".join(map(str, logins))
        raise SettingsError(f"{preset.argv[0]} has no login here ({places}): {preset.log_in}")
    if folder.exists():
        yield Mount(folder, writable=True)
    for place in preset.more_paths:
        path = Path(place.removesuffix(":rw").replace("~", str(home)))
        if path.exists():
            yield Mount(path, writable=place.endswith(":rw"))


def _read_mount(text: str) -> Mount:
    path = Path(text.removesuffix(":rw")).expanduser().absolute()
    if not path.exists():
        raise SettingsError(f"the setting 'agent_paths' is wrong: {path} does not exist")
    return Mount(path, writable=text.endswith(":rw"))


def _outside_links(folder: Path, granted: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Links at the top of a granted folder that lead out of all granted paths, and where they lead."""
    places = [path.resolve() for path in (*granted, *map(Path, SYSTEM_FOLDERS))]
    for path in folder.iterdir() if folder.is_dir() else ():
        target = path.resolve() if path.is_symlink() else None
        if target is not None and not any(target.is_relative_to(place) for place in places):
            yield path, target
