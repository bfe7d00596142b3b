"""`--show-config` and `sandbox`: what a run would use."""

from collections.abc import Callable
from typing import Any

from worker.sandbox import SandboxUnavailable, choose_sandbox
from worker.settings import SettingsError, explain_settings, load_settings

EXIT_OK, EXIT_USAGE = 0, 2


def probe_sandbox(flags: dict[str, Any], tell: Callable[[str], None]) -> str | None:
    """The name of the sandbox that a run with these flags would use; None, after a line to `tell`, if it has none."""
    try:
        return choose_sandbox(load_settings(flags).sandbox).name
    except (SettingsError, SandboxUnavailable) as error:
        tell(str(error))
        return None


def show_settings(flags: dict[str, Any], echo: Callable[[str], None], tell: Callable[[str], None]) -> int:
    """Print the settings, secrets masked, and where each came from; return the exit status."""
    try:
        for origin in explain_settings(flags):
            echo(f"{origin.name:22} {origin.value or '-':44} {origin.source}")
    except SettingsError as error:
        tell(str(error))
        return EXIT_USAGE
    return EXIT_OK
