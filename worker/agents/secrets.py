"""The leak check: finds the secrets that a coding tool may see, and looks for them in its answer.

Secrets are collected before the tool starts, because its transcript, which it writes into the same folders, holds the
code that it is asked for. A word is a secret if it has the shape of a provider's key, stands under a name such as
`refresh_token`, or looks random in a file that only its owner can read. A login that the tool renews is read again
afterwards. The answer is searched for each secret, also in base64 and base32, as numbers, rotated, backwards, in pieces
of PIECE characters, and in string literals of any length.

Not covered: a secret that was encrypted or compressed, or disguised twice.
"""

import base64
import codecs
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILES, MAX_FILE_BYTES, MAX_TOTAL_BYTES = 3000, 4 << 20, 48 << 20
"""Limits of what is read; the files nearest to the granted path come first."""

PIECE, LEAST_SHARE = 6, 0.5
"""A secret is in an answer if at least this share of it is, in pieces of so many characters."""

LEAST_RANDOM, MAX_LENGTH = 16, 8192
"""Letters and digits of the shortest word that can look random, and characters of the longest secret."""

LEAST_VARIABLE = 8
"""Characters of the shortest key in a variable such as `TOOL_KEY`."""

MAX_SECRETS = 20_000

_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_\-]{16,}|sk_live_\w{16,}|(?:rk|pk)_live_\w{16,}|sess-[A-Za-z0-9]{20,}|"  # OpenAI, Anthropic, Stripe
    r"AIza[A-Za-z0-9_\-]{30,}|ya29\.[A-Za-z0-9_\-]{20,}|1//0[A-Za-z0-9_\-]{20,}|GOCSPX-[A-Za-z0-9_\-]{20,}|"  # Google
    r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[A-Za-z0-9_\-]{16,}|"
    r"hf_[A-Za-z0-9]{20,}|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}|pplx-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}|"
    r"nvapi-[A-Za-z0-9_\-]{20,}|fw_[A-Za-z0-9]{20,}|csk-[A-Za-z0-9]{20,}|tgp_v1_[A-Za-z0-9_\-]{20,}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abeoprs]-[A-Za-z0-9\-]{10,}|xapp-[A-Za-z0-9\-]{10,}|"
    r"npm_[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_\-]{20,}|dop_v1_[a-f0-9]{32,}|SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}|"
    r"wandb_v1_\w{20,}|rt[._][A-Za-z0-9][A-Za-z0-9_.\-]{24,}|"
    r"eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}"  # JSON web tokens (RFC 7519)
    r")"
)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.+?)-----END", re.DOTALL)
_NAMED = re.compile(
    r"""(?ix) (?<! [\w.\-] ) (?P<name> [\w.\-]{0,40}? (?:
        api[_\-]?key | access[_\-]?key | secret[_\-]?key | private[_\-]?key | session[_\-]?key | auth[_\-]?key |
        token | secret | passw(?:or)?d | passphrase | bearer | authorization | credentials? | cookie | _auth
    ) [\w.\-]{0,40} ) \\? ["']? (?: \s* [:=] \s* | [ \t]+ (?=\S+\s*$) )
    \\? (?P<quote> ["']? ) (?: (?:bearer|basic) \s+ )?
    (?P<value> [^\s"'\\,;{}\[\]()<>]{8,} ) """,
    re.MULTILINE,
)
_KEY_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH")
_PASSWORD = re.compile(r"(?i)passw|passphrase|secret")
_ORDINARY = re.compile(r"[\d.:+TZ\-]+$|https?://[^@]*$|[~.]{0,2}/|\$")
_CODE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$|\w+=")  # `hashlib.sha256`, `eps=1e-8`
_WORD = re.compile(r"[A-Za-z0-9_\-+/.~]{16,}")
_LITERAL = re.compile(r"""'([^'\n]*)'|"([^"\n]*)\"""")
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]+")
_RUNS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_HEX_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+")


@dataclass(frozen=True)
class Secrets:
    """Secrets and the file or variable in which each was found; `files` hold at least one."""

    sources: Mapping[str, str] = field(default_factory=dict)
    files: frozenset[Path] = frozenset()

    def find_leak(self, answer: str, known: str) -> str | None:
        """The source of a secret that the answer contains, or None. `known` is text that the tool was given."""
        literals = "".join(first or second for first, second in _LITERAL.findall(answer))
        squeezed = f"{_squeeze(answer)}|{_squeeze(literals)}"
        digits = re.sub(r"0x|[^0-9a-f]", "", answer.lower())
        pieces = frozenset(squeezed[at : at + PIECE] for at in range(len(squeezed) - PIECE + 1))
        for value, source in self.sources.items():
            core = _squeeze(value)
            if len(core) < LEAST_RANDOM:
                is_found = value in answer
            else:
                may_be_cut = _looks_random(core)  # else its pieces may be words
                forms = _disguises(value, core)
                is_found = any(_is_held(form, squeezed, pieces, may_be_cut=may_be_cut) for form in forms)
                is_found = is_found or any(numbers in digits for numbers in _as_numbers(value))
            if is_found and value not in known and core not in _squeeze(known):
                return source
        return None

    def redact(self, line: str) -> str:
        """A line without these secrets, words that look like others, and the name of the home."""
        for value in {*find_secrets(line, is_private=True), *(value for value in self.sources if value in line)}:
            line = line.replace(value, "[a secret]")
        return line.replace(str(Path.home()), "~")


def collect_secrets(
    paths: Iterable[Path], environment: Mapping[str, str] | None = None, transcripts: Path | None = None
) -> Secrets:
    """The secrets in the files below these paths and in these variables. Unreadable files are left out.

    In files below `transcripts` randomness makes no secret: tools number their messages at random.
    """
    sources: dict[str, str] = {}
    files: set[Path] = set()
    left = MAX_TOTAL_BYTES
    for path in _list_files(paths):
        try:
            status = path.stat()
            if not status.st_size or status.st_size > min(MAX_FILE_BYTES, left):
                continue
            content = path.read_bytes()
        except OSError:  # unreadable for this user, so for the tool too
            continue
        left -= len(content)
        is_transcript = transcripts is not None and path.is_relative_to(transcripts)
        is_private = not status.st_mode & 0o077 and not is_transcript and b"\0" not in content[:4096]
        for value in find_secrets(content.decode(errors="replace"), is_private=is_private):
            if len(sources) >= MAX_SECRETS:
                break
            sources.setdefault(value, shorten_home(path))
            files.add(path)
    for name, text in (environment or {}).items():
        is_key = _KEY_VARIABLE.search(name) and len(text) >= LEAST_VARIABLE and not _ORDINARY.match(text)
        for value in {text} if is_key else find_secrets(f"{name}={text}", is_private=True):
            sources.setdefault(value, f"the variable {name}")
    return Secrets(sources, frozenset(files))


def renew(secrets: Secrets) -> Secrets:
    """The same secrets, and those that now stand in the same files."""
    return Secrets({**collect_secrets(secrets.files).sources, **secrets.sources}, secrets.files)


def find_secrets(text: str, *, is_private: bool) -> set[str]:
    """The secrets in a text; words that only look random count if it `is_private`."""
    found = {match.group() for match in _SHAPES.finditer(text)}
    found |= {part for key in found if key.startswith("eyJ") for part in key.split(".")[1:]}
    for block in _PEM.findall(text):
        body = block.replace("\\n", "\n").replace("\\r", "")
        found.update(line.strip() for line in body.splitlines() if len(line.strip()) >= LEAST_RANDOM)
    for match in _NAMED.finditer(text):
        value, is_text = match["value"], bool(match["quote"]) or is_private
        is_password = bool(_PASSWORD.search(match["name"])) and _is_password(value, is_text=is_text)
        if is_password or any(map(_looks_random, _parts(value))):
            found.add(value)
    if is_private:
        found.update(word for word in _WORD.findall(text) if any(map(_looks_random, _parts(word))))
    return {value for value in found if len(value) <= MAX_LENGTH}


def _is_password(value: str, *, is_text: bool) -> bool:
    """Whether a value under a name such as `password` is one: no number, path, address or, unless `is_text`, code."""
    if _ORDINARY.match(value) or not (is_text or re.search(r"[^\w.]", value)):
        return False
    return bool(re.search(r"[0-9!@#$%^&*?]", value) or ("-" in value and len(value) >= 12)) and not _CODE.match(value)


def _parts(word: str) -> Iterator[str]:
    """The stretches of letters and digits in a word, and the whole of it where base64 may have divided it."""
    if _HEX_NUMBER.search(word):
        return
    yield from _ALPHANUMERIC.findall(word)
    if "/" not in word and "." not in word and len(re.findall(r"[_+\-]", word)) <= len(word) / 16:
        yield _squeeze(word)


def _looks_random(part: str) -> bool:
    """Whether a stretch of letters and digits is no word, name or number.

    In words and names, letters and digits come in runs (`Causal`, `Self`, `Attention`, `2048`); at random, a run of
    one kind is about two characters long, in hex as well.
    """
    has_both = re.search("[0-9]", part) and re.search("[A-Za-z]", part)
    return bool(has_both) and len(part) >= LEAST_RANDOM and len(part) / len(_RUNS.findall(part)) <= 2.8


def _disguises(value: str, core: str) -> Iterator[str]:
    """The letters and digits of a secret: plain, reversed, rotated, and in base64 and base32 at each alignment."""
    yield from (core, core[::-1], codecs.encode(core, "rot13"))
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + value.encode()).decode()
        yield _squeeze(encoded[math.ceil(shift * 8 / 6) :].rstrip("=")[:-1])
    for shift in range(5):
        encoded = base64.b32encode(b"\0" * shift + value.encode()).decode()
        yield encoded[math.ceil(shift * 8 / 5) :].rstrip("=")[:-1]


def _as_numbers(value: str) -> tuple[str, str]:
    """The bytes of a secret in hex, and in decimal."""
    content = value.encode()
    return content.hex(), "".join(map(str, content))


def _is_held(secret: str, answer: str, pieces: frozenset[str], *, may_be_cut: bool) -> bool:
    """Whether an answer with these pieces contains a secret, or enough of it if it `may_be_cut`."""
    starts = [at for at in range(len(secret) - PIECE + 1) if secret[at : at + PIECE] in pieces]
    if not starts:
        return False  # almost always
    if may_be_cut:
        covered = len({at + offset for at in starts for offset in range(PIECE)})
        return covered >= max(LEAST_SHARE * len(secret), LEAST_RANDOM)
    return secret in answer


def _squeeze(text: str) -> str:
    """Only its letters and digits: whatever quotes, line ends or signs divide a secret."""
    return re.sub(r"\\n|[^A-Za-z0-9]", "", text)


def _list_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The regular files at and below these paths: those near the top first, at most MAX_FILES."""
    found: list[tuple[int, Path]] = []
    for path in paths:
        if path.is_file():
            found.append((0, path))
        for parent, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name not in ("node_modules", ".git", "site-packages"))
            depth = len(Path(parent).relative_to(path).parts)
            found += ((depth, Path(parent, name)) for name in sorted(names))
    files = (file for _, file in sorted(found) if file.is_file())
    return (file for file, _ in zip(files, range(MAX_FILES), strict=False))


def shorten_home(path: Path) -> str:
    """A path as text, without the name of its owner's home."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
