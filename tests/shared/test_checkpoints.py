"""Checkpoints as signed notes: another's reader of the format, and what is refused."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared import checkpoints
from shared.checkpoints import Checkpoint, CheckpointError

SECRET = bytes(range(32))
HEAD = Checkpoint("swarm/tiny/ab", 5, bytes(range(32)))


def test_a_note_is_read_as_the_format_says() -> None:
    note = checkpoints.sign(HEAD, [SECRET])
    text, signature = note.split("\n\n")
    assert text.split("\n") == ["swarm/tiny/ab", "5", base64.b64encode(HEAD.root).decode()]
    dash, name, encoded = signature.rstrip("\n").split(" ")
    assert (dash, name) == ("\u2014", "swarm/tiny/ab")
    Ed25519PublicKey.from_public_bytes(checkpoints.public_of(SECRET)).verify(
        base64.b64decode(encoded)[4:], f"{text}\n".encode()
    )
    verifier = checkpoints.format_key(HEAD.origin, checkpoints.public_of(SECRET))
    assert verifier.split("+")[1] == base64.b64decode(encoded)[:4].hex()
    assert checkpoints.parse_key(verifier) == (HEAD.origin, checkpoints.public_of(SECRET))
    assert checkpoints.parse(note) == HEAD


def test_one_of_several_signatures_is_enough_and_no_changed_note_is_signed() -> None:
    other = checkpoints.make_key()
    note = checkpoints.sign(HEAD, [other, SECRET])
    assert checkpoints.is_signed_by(note, checkpoints.public_of(SECRET))
    assert checkpoints.is_signed_by(note, checkpoints.public_of(other))
    assert not checkpoints.is_signed_by(note, checkpoints.public_of(checkpoints.make_key()))
    assert not checkpoints.is_signed_by(note.replace("\n5\n", "\n6\n"), checkpoints.public_of(SECRET))
    assert not checkpoints.is_signed_by(note.replace("tiny", "huge"), checkpoints.public_of(SECRET))


@pytest.mark.parametrize(
    "note", ["", "a\nb\nc\n", "a\n05\n" + base64.b64encode(bytes(32)).decode() + "\n", "a\n5\nAAAA\n"]
)
def test_what_is_no_checkpoint_is_refused(note: str) -> None:
    with pytest.raises(CheckpointError):
        checkpoints.parse(note)


@pytest.mark.parametrize("key", ["", "a+b", "swarm/tiny/ab+00000000+AQ==", "swarm/tiny/ab+00000000+" + "A" * 44])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(CheckpointError):
        checkpoints.parse_key(key)
