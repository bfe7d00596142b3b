"""`login`: checks a token, or creates an account, and stores the token where only its owner can read it."""

import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from shared.workers import SignUp
from worker.api.client import ClientError, CoordinatorClient, Unauthorized
from worker.settings import SettingsError, check_token, config_path, login_path


def sign_up(name: str, url: str, invitation: str | None = None) -> str:
    """Create an account; return its token. Raises SettingsError for a wrong name, and ClientError."""
    try:
        asked = SignUp(name=name, label=socket.gethostname()[:200] or "worker", invitation=invitation)
    except ValidationError as error:
        raise SettingsError(
            f"{name!r} is not a valid account name: use 1 to 63 lower-case letters, digits and hyphens, no hyphen first"
        ) from error
    with closing(CoordinatorClient(url, None)) as client:
        return client.sign_up(asked).token


def refuse_loss(path: Path) -> None:
    """Raise SettingsError if a token is stored there, which may be the only one of its account."""
    if path.exists() and path.read_text(encoding="utf-8", errors="replace").strip():
        raise SettingsError(
            f"{path} holds a token already, which may be the only one of its account: copy the file first, "
            "then give --replace too"
        )


def store_login(text: str, url: str, keeps_url: bool, print_line: Callable[[str], None]) -> Path:
    """Store the token and, with `keeps_url`, the coordinator's address; return the token's file.

    A token that cannot be checked is stored too. Raises SettingsError for a text that is no token or is refused.
    """
    token = check_token(text, "what was given")
    try:
        with closing(CoordinatorClient(url, token)) as client:
            client.check_token()
    except Unauthorized as error:
        raise SettingsError(f"{url} does not accept this token: {error}") from error
    except ClientError as error:
        print_line(f"the token could not be checked: {error}")
    path = login_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, token.get_secret_value() + "\n")
    if keeps_url:
        _store_address(url, print_line)
    return path


def _store_address(url: str, print_line: Callable[[str], None]) -> None:
    """Write the address into `config.toml`, unless that names one."""
    path = config_path()
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if "coordinator_url" in before:
        print_line(f"{path} names a coordinator already and is unchanged")
        return
    _write(path, f'coordinator_url = "{url}"\n{before}')


def _write(path: Path, text: str) -> None:
    """Write a file whole, readable by its owner alone from the start; two commands may write at once."""
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)
