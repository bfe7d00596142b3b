"""Answers one request of a fetch: finds the commits that both sides have and those that must be sent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy.orm import Session

from coordinator.git_http import queries
from coordinator.git_http.packs import ObjectList, list_objects
from coordinator.git_http.protocol import ALL_COMMITS, FLUSH, FetchRefusedError, FetchRequest, frame
from coordinator.git_http.queries import CommitTrees
from coordinator.git_http.walk import MissingCommit, find_ends, walk_missing

FEW_COMMITS = 64
"""Maximum number of commits that are sent without asking for a nearer common commit: asking would cost more."""

MAX_HAVES = 2000
"""Maximum number of the client's commits that are followed. Leaving some out makes a pack larger, never wrong."""


@dataclass(frozen=True)
class _Ends:
    """The ends of the client's history before (`had`) and after (`now`), and commits `beyond` the old ones to send."""

    had: set[str]
    now: set[str]
    beyond: list[CommitTrees] = field(default_factory=list)
    lines: bytes = b""


def answer_fetch(session: Session, project_id: int, request: FetchRequest) -> tuple[bytes, ObjectList | None]:
    """The framed lines of an answer, and the objects of the pack that follows, if one does.

    Raises FetchRefusedError where the request wants a sha that is no commit of the project.
    """
    if not request.wants:
        return b"", None  # git asks so whether it may send a long request
    wants = _find_wants(session, project_id, request.wants)
    ends = _move_ends(session, project_id, wants, request)
    if not request.is_negotiating:
        return ends.lines, None
    known = queries.find_commits(session, project_id, request.haves[:MAX_HAVES])
    common = [sha for sha in request.haves if sha in known]
    haves = [known[sha] for sha in common]

    def walk() -> Iterator[MissingCommit]:
        return walk_missing(session, [*wants, *ends.beyond], haves, ends.had, ends.now)

    def is_near() -> bool:
        return sum(1 for _ in islice(walk(), FEW_COMMITS + 1)) <= FEW_COMMITS

    words, is_pack_due = _acknowledge(request, common, is_near)
    lines = ends.lines + b"".join(frame(word) for word in words)
    return lines, list_objects(session, walk()) if is_pack_due else None


def _find_wants(session: Session, project_id: int, shas: list[str]) -> list[CommitTrees]:
    found = queries.find_commits(session, project_id, shas)
    for sha in shas:
        if sha not in found:
            raise FetchRefusedError(f"not our ref {sha}: this project has no such commit")
    return list(found.values())


def _move_ends(session: Session, project_id: int, wants: list[CommitTrees], request: FetchRequest) -> _Ends:
    shallows = queries.find_commits(session, project_id, request.shallows)
    had = set(shallows)
    if not request.depth:
        return _Ends(had, had)
    if request.depth == ALL_COMMITS:
        new, inside = set[str](), had
    elif "deepen-relative" in request.capabilities:
        new, inside = find_ends(session, shallows.values(), request.depth + 1, had)
    else:
        new, inside = find_ends(session, wants, request.depth, had)
    words = [f"shallow {sha}" for sha in sorted(new - had)] + [f"unshallow {sha}" for sha in sorted(inside)]
    parents = [parent for sha in inside if (parent := shallows[sha].parent_sha) is not None]
    beyond = list(queries.find_commits(session, project_id, parents).values())
    return _Ends(had, had - inside | new, beyond, b"".join(frame(word) for word in words) + FLUSH)


def _acknowledge(request: FetchRequest, common: list[str], is_near: Callable[[], bool]) -> tuple[list[str], bool]:
    """The lines that answer the client's haves, and whether the pack follows.

    Without `multi_ack_detailed` (no client of the last decade) only the first common commit is acknowledged.
    """
    is_detailed = "multi_ack_detailed" in request.capabilities
    words = [f"ACK {sha} common" for sha in common] if is_detailed else [f"ACK {sha}" for sha in common[:1]]
    if request.is_done:
        last = [f"ACK {common[-1]}"] if common and is_detailed else []
        return (words + last if common else ["NAK"]), True
    is_ready = is_detailed and bool(common) and is_near()
    if is_ready:
        words.append(f"ACK {common[-1]} ready")
    if is_detailed or not common:
        words.append("NAK")
    if is_ready and "no-done" in request.capabilities:
        return [*words, f"ACK {common[-1]}"], True
    return words, False
