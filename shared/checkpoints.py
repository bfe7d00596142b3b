"""Signed tree heads of a project's history, in the formats of C2SP: a checkpoint in a signed note, and verifier keys.

A note is `ORIGIN`, the number of leaves, the root's hash in base64, an empty line, and a line for each signature. The
name of each key is the origin. The only module that knows `cryptography`.
"""

from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\1"
"""The type of a key."""

ID_BYTES = 4
MARK = "\u2014 "
"""The beginning of a signature's line."""


class CheckpointError(ValueError):
    """A checkpoint or a key that cannot be read, or whose signature is wrong; the message says what."""


class Checkpoint(NamedTuple):
    origin: str
    size: int
    root: bytes

    def format(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def make_key() -> bytes:
    """A new secret key."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_of(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def fingerprint(public: bytes) -> str:
    """16 digits that stand for a log's first key in its origin, so that no log of another key has its name."""
    return sha256(public.hex().encode()).hexdigest()[:16]


def head_of_sums(origin: str, sums: bytes) -> Checkpoint:
    """The statement that signs a snapshot's checksums: their hash and number, under a name that no log has."""
    return Checkpoint(f"{origin}/sums", sums.count(b"\n"), sha256(sums).digest())


def format_key(origin: str, public: bytes) -> str:
    """A public key as a verifier key: `ORIGIN+ID+BASE64`."""
    return f"{origin}+{_id_of(origin, public).hex()}+{b64encode(ED25519 + public).decode()}"


def parse_key(text: str) -> tuple[str, bytes]:
    """Origin and public key of a verifier key. Raises CheckpointError."""
    try:
        origin, identity, encoded = text.strip().split("+", 2)
        kind_and_key = b64decode(encoded, validate=True)
    except (ValueError, BadBase64) as error:
        raise CheckpointError(f"{text.strip()!r} is no verifier key, as ORIGIN+ID+BASE64") from error
    kind, public = kind_and_key[:1], kind_and_key[1:]
    if kind != ED25519 or len(public) != 32 or _id_of(origin, public).hex() != identity:
        raise CheckpointError(f"{text.strip()!r} is no verifier key of Ed25519 whose parts agree")
    return origin, public


def _id_of(origin: str, public: bytes) -> bytes:
    return sha256(origin.encode() + b"\n" + ED25519 + public).digest()[:ID_BYTES]


def sign(checkpoint: Checkpoint, secrets: Sequence[bytes]) -> str:
    """A signed note with a signature by each key."""
    lines = []
    for secret in secrets:
        key = Ed25519PrivateKey.from_private_bytes(secret)
        identity = _id_of(checkpoint.origin, key.public_key().public_bytes_raw())
        signature = b64encode(identity + key.sign(checkpoint.format().encode())).decode()
        lines.append(f"{MARK}{checkpoint.origin} {signature}\n")
    return f"{checkpoint.format()}\n{''.join(lines)}"


def endorse(key: str, secret: bytes) -> str:
    """The signature with which an older key says that a verifier key takes its place."""
    return b64encode(Ed25519PrivateKey.from_private_bytes(secret).sign(_words_for(key))).decode()


def is_endorsed(key: str, signature: str, before: str) -> bool:
    """Whether the verifier key `before` has said that `key` takes its place in the same log."""
    try:
        origin, public = parse_key(before)
        if parse_key(key)[0] != origin:
            return False
        Ed25519PublicKey.from_public_bytes(public).verify(b64decode(signature, validate=True), _words_for(key))
    except (CheckpointError, BadBase64, InvalidSignature):
        return False
    return True


def _words_for(key: str) -> bytes:
    return f"the key of this log is now\n{key}\n".encode()


def parse(note: str) -> Checkpoint:
    """The contents of a note, whoever signed it. Raises CheckpointError."""
    try:
        origin, size, root = note.partition("\n\n")[0].split("\n")[:3]
        found = Checkpoint(origin, int(size), b64decode(root, validate=True))
    except (ValueError, BadBase64) as error:
        raise CheckpointError("it is no checkpoint: a name, a number and a hash, one a line") from error
    if not origin or str(found.size) != size or found.size < 0 or len(found.root) != 32:
        raise CheckpointError("it is no checkpoint: a name, a number and a hash, one a line")
    return found


def is_signed_by(note: str, public: bytes) -> bool:
    """Whether a note has a signature by this key."""
    body, _, signatures = note.partition("\n\n")
    checkpoint = parse(note)
    identity = _id_of(checkpoint.origin, public)
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix(MARK).rpartition(" ")
        try:
            blob = b64decode(encoded, validate=True)
        except BadBase64:
            continue
        if not line.startswith(MARK) or name != checkpoint.origin or blob[:ID_BYTES] != identity:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(blob[ID_BYTES:], f"{body}\n".encode())
        except InvalidSignature:
            return False
        return True
    return False
