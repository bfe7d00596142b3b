"""Logging in: makes an account, exchanges a code for a token, or takes a token, and stores it where only its owner can
read it. A token that may be the only one of its account is never lost unasked."""

import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError

from shared.moderation import TokenView
from shared.protocol import now
from shared.workers import OwnAccount, SignIn, SignUp
from worker.api.client import AccountStopped, ClientError, CoordinatorClient, Unauthorized
from worker.commands.options import ExitStatus, WorkerCommandError
from worker.settings import SettingsError, WorkerSettings, check_token, config_path, load_settings, login_path

_CODE = re.compile(r"[0-9A-Za-z]{4}(?:[\s-]?[0-9A-Za-z]{4}){2}")
KEPT = "token.before"
"""The file beside the token that gets the one before it."""

Printer = Callable[[str], None]


def sign_up(name: str, url: str, invitation: str | None, print_line: Printer, *, replace: bool) -> None:
    """Create an account and store its token. Raises SettingsError, ClientError, OSError."""
    try:
        asked = SignUp(name=name, label=_machine(), invitation=invitation)
    except ValidationError as error:
        raise SettingsError(
            f"{name!r} is not a valid account name: use 1 to 63 lower-case letters, digits and hyphens, no hyphen first"
        ) from error
    if not replace:
        _refuse_loss(url)
    check_writable(login_path())
    with closing(CoordinatorClient(url, None)) as client:
        token = client.sign_up(asked).token
    store_token(login_path(), token, print_line)
    with closing(CoordinatorClient(url, SecretStr(token))) as client:
        try:
            client.fetch_account()
        except AccountStopped as error:
            print_line(f"{error} Start the worker all the same: it waits until then.")
        except ClientError:  # the next command will say what is wrong
            return


def log_in(text: str, url: str, print_line: Printer, *, replace: bool) -> None:
    """Store the token that a person gave, or the one that is exchanged for a code.

    A token that cannot be checked is stored, too, where there is none. Raises SettingsError for a text that is neither
    or is refused, ClientError, OSError.
    """
    text = text.strip()
    if text.startswith("swl_") or "/sign-in?link=" in text:
        raise SettingsError(
            "that is a sign-in link, for a browser: open it, and on your page make a code for this machine "
            "(`Log another machine in`)"
        )
    if text.startswith("swi_") or "invitation=" in text:
        raise SettingsError(
            f"that is an invitation: swarm-worker login --new NAME --invitation {text.rpartition('=')[2]}"
        )
    if _CODE.fullmatch(text):
        if not replace:
            _refuse_loss(url)
        check_writable(login_path())
        with closing(CoordinatorClient(url, None)) as client:
            account = client.sign_in(SignIn(secret=text, label=_machine()))
        store_token(login_path(), account.token, print_line)
        print_line(f"logged in as {account.volunteer}")
        return
    token = check_token(text, "what was given")
    owner = _find_owner(token, url, print_line)
    if not replace and _read(login_path()) != token.get_secret_value():
        _refuse_loss(url, owner)
    store_token(login_path(), token.get_secret_value(), print_line)


def _find_owner(token: SecretStr, url: str, print_line: Printer) -> str:
    """The account of a new token; empty where that cannot be asked. Raises SettingsError for one that is refused."""
    try:
        with closing(CoordinatorClient(url, token)) as client:
            owner = client.fetch_account().volunteer
    except AccountStopped as error:
        print_line(str(error))
        return ""
    except Unauthorized as error:
        raise SettingsError(
            f"{url} does not accept this token: {error} Is it whole, and of this coordinator? Your page ({url}/me) "
            "makes a code for this machine"
        ) from error
    except ClientError as error:
        print_line(f"the token could not be checked: {error}")
        return ""
    print_line(f"logged in as {owner}")
    return owner


def _refuse_loss(url: str, owner: str = "") -> None:
    """Raise SettingsError if a token is stored that counts, unless it is known to be of the account `owner`."""
    path, stored = login_path(), _read(login_path())
    if not stored:
        return
    known = "an account"
    try:
        with closing(CoordinatorClient(url, check_token(stored, f"the file {path}"))) as client:
            known = client.fetch_account().volunteer
    except (AccountStopped, SettingsError):
        pass
    except Unauthorized:  # worth nothing here; it is kept all the same
        return
    except ClientError as error:
        raise SettingsError(
            f"whose token {path} holds cannot be asked: {error}. Correct the address (--coordinator), or give "
            f"--replace too, which keeps it as {KEPT}"
        ) from error
    if known != owner:
        raise SettingsError(
            f"this machine is logged in as {known} already, and {path} may be the only one of its account's tokens: "
            f"give --replace too, which keeps it as {KEPT}"
        )


def store_token(path: Path, token: str, print_line: Printer) -> None:
    """Store a token; another one that is there is kept beside it. Raises OSError."""
    path = path.resolve()  # a link stays one
    before = _read(path)
    if before and before != token:
        _write(path.with_name(KEPT), before + "\n")
        print_line(f"the token that was there is kept as {path.with_name(KEPT)}")
    _write(path, token + "\n")


def store_address(url: str, print_line: Printer) -> None:
    """Write the coordinator's address into `config.toml`, unless that names one."""
    path = config_path()
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if "coordinator_url" in before:
        if f'"{url}"' not in before:
            print_line(
                f"{path} names another coordinator and is unchanged: correct it, or give --coordinator each time"
            )
        return
    _write(path, f'coordinator_url = "{url}"\n{before}')


def check_writable(path: Path) -> None:
    """Raise OSError if the token's file could not be stored, before a token is made that would be lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.resolve().parent):
        return


@dataclass(frozen=True)
class Login:
    """The account that this machine is logged in to, and a connection with its token."""

    settings: WorkerSettings
    client: CoordinatorClient
    account: OwnAccount

    def list_tokens(self) -> list[TokenView]:
        """The account's tokens, oldest first."""
        return self.client.list_tokens(self.account.volunteer)[::-1]

    def list_valid(self) -> list[TokenView]:
        """Those that count."""
        return [one for one in self.list_tokens() if _is_valid(one)]

    def list_made_with(self, number: int) -> set[int]:
        """A token's number, and those of the tokens that were made with it, valid or not."""
        made = {number}
        for one in self.list_tokens():
            if one.made_with_id in made:
                made.add(one.id)
        return made

    def get(self, number: int) -> TokenView:
        """One of those. Raises WorkerCommandError."""
        found = next((one for one in self.list_valid() if one.id == number), None)
        if found is None:
            problem = f"{self.account.volunteer} has no token {number} that counts: see `swarm-worker tokens list`"
            raise WorkerCommandError(problem)
        return found


@contextmanager
def open_login(coordinator: str | None) -> Iterator[Login]:
    """The login of this machine. Turns errors into WorkerCommandErrors."""
    settings = load_settings({"coordinator_url": coordinator})
    url = settings.require_coordinator()
    try:
        token = settings.read_token()
    except SettingsError as error:
        raise WorkerCommandError(str(error), ExitStatus.AUTHENTICATION) from error
    try:
        with closing(CoordinatorClient(url, token, advice=settings.advise_login())) as client:
            yield Login(settings, client, client.fetch_account())
    except AccountStopped as error:
        raise WorkerCommandError(str(error), ExitStatus.AUTHENTICATION) from error
    except Unauthorized as error:
        problem = f"{url} does not accept this machine's token: {error}"
        raise WorkerCommandError(problem, ExitStatus.AUTHENTICATION) from error
    except ClientError as error:
        raise WorkerCommandError(str(error)) from error
    except ValidationError as error:
        problem = "say in 1 to 80 characters what the token is for"
        raise WorkerCommandError(problem, ExitStatus.USAGE) from error
    except OSError as error:
        problem = f"{settings.token_path} cannot be written: {error.strerror or error}"
        raise WorkerCommandError(problem) from error


def _is_valid(token: TokenView) -> bool:
    return not token.revoked_at and (token.expires_at is None or token.expires_at > now())


def _machine() -> str:
    return socket.gethostname()[:80] or "worker"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""


def _write(path: Path, text: str) -> None:
    """Write a file whole, readable by its owner alone from the start; two commands may write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)
