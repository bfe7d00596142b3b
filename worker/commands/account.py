"""`login`: a token is tried, or comes with a new account, and is kept where only its owner can read it."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from shared.accounts import SignUp
from worker.api.client import ClientError, CoordinatorClient, Unauthorized
from worker.settings import SettingsError, check_token, config_path, load_settings, login_path


def sign_up(name: str, coordinator: str | None) -> str:
    """Make an account of that name; return its token. Raises SettingsError, and ClientError where it cannot be made."""
    try:
        asked = SignUp(name=name, label=socket.gethostname()[:200] or "worker")
    except ValidationError as error:
        raise SettingsError(
            f"{name!r} is no name for an account: 1 to 63 lower-case letters, digits and hyphens, no hyphen first"
        ) from error
    client = CoordinatorClient(load_settings({"coordinator_url": coordinator}).coordinator_url, None)
    try:
        return client.sign_up(asked).token
    finally:
        client.close()


def keep_login(text: str, coordinator: str | None, tell: Callable[[str], None]) -> Path:
    """Keep the token and, if it is named, the coordinator's address; return the token's file.

    A coordinator that cannot be reached is told of, and the token kept all the same. Raises SettingsError for what is
    no token or is not accepted, and OSError.
    """
    token = check_token(text, "what was given")
    url = load_settings({"coordinator_url": coordinator}).coordinator_url
    client = CoordinatorClient(url, token)
    try:
        client.check_token()
    except Unauthorized as error:
        raise SettingsError(f"{url} does not accept this token: {error}") from error
    except ClientError as error:
        tell(f"the token could not be tried: {error}")
    finally:
        client.close()
    path = login_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, token.get_secret_value() + "\n")
    if coordinator is not None:
        _keep_address(url, tell)
    return path


def _keep_address(url: str, tell: Callable[[str], None]) -> None:
    """Write the address into `config.toml`, which is not touched where it names one."""
    path = config_path()
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if "coordinator_url" in before:
        tell(f"{path} names a coordinator already; it was left as it is")
        return
    _write(path, f'coordinator_url = "{url}"\n{before}')


def _write(path: Path, text: str) -> None:
    """Write a file whole, readable by its owner alone from the start; two commands may write at once."""
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)
