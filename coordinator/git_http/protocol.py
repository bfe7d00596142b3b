"""Git's upload-pack protocol, version 0 over smart HTTP: parses requests and frames answers. Pure.

Each request carries the whole conversation so far (`stateless-rpc`): wants, the client's shallow commits, how deep it
wants to go, and what it has. A client that offers version 2 gets version 0, as git allows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from string import hexdigits

from dulwich.errors import GitProtocolError
from dulwich.protocol import PktLineParser, extract_want_line_capabilities, pkt_line

from coordinator.git_http.queries import Ref
from coordinator.http.errors import SwarmError

FLUSH = pkt_line(None)
SIDE_BAND_BYTES = 65_515
"""Maximum data bytes in one line of side-band-64k: 65,520 less the line's length (4) and the channel (1)."""

ALL_COMMITS = 2**31 - 1
"""The depth that `git fetch --unshallow` sends."""

MAX_SHAS = 20_000
"""Maximum number of commits that a request may name."""

CAPABILITIES = (
    "multi_ack_detailed no-done side-band-64k thin-pack shallow deepen-relative allow-tip-sha1-in-want "
    "allow-reachable-sha1-in-want object-format=sha1 agent=research-swarm"
)


class FetchRefusedError(SwarmError, status=400, title="The remote cannot answer this fetch"):
    """The client asks for a commit or a feature that this remote lacks. Git prints the detail as `remote error`."""


@dataclass
class FetchRequest:
    """A parsed request. `depth` is 0 where the client asks for no change of depth."""

    wants: list[str] = field(default_factory=list)
    capabilities: set[str] = field(default_factory=set)
    shallows: list[str] = field(default_factory=list)
    depth: int = 0
    haves: list[str] = field(default_factory=list)
    is_done: bool = False
    is_negotiating: bool = False
    """Whether the client went on after its wants; otherwise it waits only for the ends of its shallow history."""


def parse_request(body: bytes) -> FetchRequest:
    """Parses a request's body. Raises FetchRefusedError."""
    lines = _split_lines(body)
    request = FetchRequest()
    for line in lines:
        if line is None:
            break
        _parse_want_line(request, line)
    for line in lines:
        request.is_negotiating = True
        if line is None or request.is_done:
            break
        _parse_have_line(request, line)
    if len(request.wants) + len(request.shallows) + len(request.haves) > MAX_SHAS:
        raise FetchRefusedError(f"a request names at most {MAX_SHAS} commits")
    return request


def _split_lines(body: bytes) -> Iterator[bytes | None]:
    lines: list[bytes | None] = []
    parser = PktLineParser(lines.append)
    try:
        parser.parse(body)
    except GitProtocolError as error:
        raise FetchRefusedError(f"not a git request: {error}") from error
    if parser.get_tail():
        raise FetchRefusedError("the request ends in the middle of a line")
    return iter(lines)


def _parse_want_line(request: FetchRequest, line: bytes) -> None:
    if not request.wants:
        line, capabilities = extract_want_line_capabilities(line)
        request.capabilities = {capability.decode(errors="replace") for capability in capabilities}
    word, _, value = line.rstrip(b"\n").decode(errors="replace").partition(" ")
    if word == "want":
        request.wants.append(_check_sha(value))
    elif word == "shallow":
        request.shallows.append(_check_sha(value))
    elif word == "deepen" and value.isascii() and value.isdigit() and 0 < int(value[:10]) <= ALL_COMMITS:
        request.depth = int(value[:10])
    else:
        raise FetchRefusedError(f"not supported here: {word[:40]} {value[:40]}")


def _parse_have_line(request: FetchRequest, line: bytes) -> None:
    word, _, value = line.rstrip(b"\n").decode(errors="replace").partition(" ")
    if word == "have":
        request.haves.append(_check_sha(value))
    elif word == "done":
        request.is_done = True
    else:
        raise FetchRefusedError(f"not supported here: {word[:40]}")


def _check_sha(text: str) -> str:
    if len(text) != 40 or not set(hexdigits).issuperset(text):
        raise FetchRefusedError(f"not the name of a commit: {text[:60]!r}")
    return text.lower()


def announce(service: str) -> bytes:
    """The lines that smart HTTP puts before an advertisement."""
    return frame(f"# service={service}") + FLUSH


def advertise(refs: list[Ref]) -> bytes:
    """The refs with our capabilities. HEAD comes first and is the first of `refs`."""
    head = f"{refs[0].sha} HEAD\0{CAPABILITIES} symref=HEAD:{refs[0].name}"
    lines = [head, *(f"{ref.sha} {ref.name}" for ref in sorted(refs))]
    return b"".join(frame(line) for line in lines) + FLUSH


def frame(line: str) -> bytes:
    """One line of text as a pkt-line."""
    return pkt_line(f"{line}\n".encode())


def frame_error(sentence: str) -> bytes:
    """A sentence that ends the conversation and that git prints."""
    return pkt_line(f"ERR {sentence}".encode())


def frame_pack(chunks: Iterator[bytes], capabilities: set[str]) -> Iterator[bytes]:
    """A pack on the first channel of side-band-64k, or as it is for a client without it."""
    if "side-band-64k" not in capabilities:
        yield from chunks
        return
    for chunk in chunks:
        pieces = (chunk[start : start + SIDE_BAND_BYTES] for start in range(0, len(chunk), SIDE_BAND_BYTES))
        yield b"".join(pkt_line(b"\1" + piece) for piece in pieces)
    yield FLUSH
