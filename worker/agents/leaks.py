"""Keeps what an agent's command could read out of what is published: its files and words, copied as they are.

A tool that obeys a hostile text may copy its own login into a file that every volunteer will see. Words that look
like keys (long, letters and digits) of the paths and variables it was given are looked for in its answer. A key that
was encoded first is not found: name as little as possible.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from worker.sandbox.tool import Grant

_WORD = re.compile(r"[A-Za-z0-9_\-+/=.]{16,}")
MAX_FILES, MAX_FILE_BYTES = 500, 65_536


def collect_secrets(grants: Iterable[Grant]) -> set[str]:
    """What looks like a key below these paths."""
    secrets: set[str] = set()
    files = [path for grant in grants for path in _files(grant.path)]
    for path in files[:MAX_FILES]:
        try:
            if path.stat().st_size <= MAX_FILE_BYTES:
                secrets |= {word for word in _WORD.findall(path.read_text(errors="replace")) if _is_key(word)}
        except OSError:  # not ours to read, so not the command's either
            continue
    return secrets


def holds_secret(answer: str, parent: str, secrets: Iterable[str]) -> bool:
    """Whether the answer has a secret that the parent's files do not have."""
    return any(secret in answer and secret not in parent for secret in secrets)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [Path(parent, name) for parent, _, names in os.walk(path) for name in sorted(names)][:MAX_FILES]


def _is_key(word: str) -> bool:
    return any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
