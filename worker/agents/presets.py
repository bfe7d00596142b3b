"""Presets of `--agent claude`, `codex`, `gemini`, `opencode` and `aider`: presets.toml, tried with the real ones."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

EDITABLE = "{editable}"
"""Stands for the project's editable files, a word for each."""

SYSTEM_VARIABLES = (
    "TZ", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


class ToolPreset(BaseModel, frozen=True, extra="forbid"):
    """How one tool is run.

    `argv` without a placeholder gets the prompt on its standard input. `folder` holds login, settings and transcripts,
    and is `~/...` unless the variable `folder_variable` names another; `more_paths` are granted too, where they exist
    (`:rw` as in `agent_paths`; of one that ends with `/`, a folder, the tool gets a copy, because it insists on writing
    there). The tool is logged in if one of the files `logins` exists, or one of the variables `keys` is set.
    `transcripts` lies below `folder`, and so does what is `protected`: files and (with `/`) folders that its owner's
    own sessions would obey. Words of `argv` that are `optional` are left out where the tool does not know them.
    `logged_out` is what it says without a valid login, and `log_in` what to do about that. The answer's files go into
    the work folder with `answers_in_work`, else into `/swarm/answer`.
    """

    argv: tuple[str, ...]
    folder: str
    logins: tuple[str, ...]
    keys: tuple[str, ...]
    log_in: str
    logged_out: tuple[str, ...]
    transcripts: str
    protected: tuple[str, ...] = ()
    folder_variable: str = ""
    more_paths: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    answers_in_work: bool = False
    optional: tuple[str, ...] = ()


_TABLES = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
PRESETS = {name: ToolPreset.model_validate(table) for name, table in _TABLES.items()}
