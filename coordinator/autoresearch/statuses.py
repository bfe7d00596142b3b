"""Reads the word in a row's status: kept, measured, failed, over a limit, or never run. Pure."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from coordinator.autoresearch.tables import ResultsInvalidError
from shared.runs import RunOutcome


class Fate(StrEnum):
    """The end of a row: whether it counts, with the words by which an account names it."""

    KEPT = "kept"
    DISCARDED = "measured, not kept"
    CRASHED = "failed"
    TIMEOUT = "failed, out of time"
    INVALID = "failed, not comparable or over a limit"
    NOT_RUN = "not run"

    @property
    def outcome(self) -> RunOutcome:
        """The outcome of a run with this fate, if it has a number."""
        return _OUTCOMES.get(self, RunOutcome.OK)


_OUTCOMES = {Fate.CRASHED: RunOutcome.CRASHED, Fate.TIMEOUT: RunOutcome.TIMEOUT, Fate.INVALID: RunOutcome.INVALID}
_WORDS = {
    Fate.KEPT: (
        "keep keeps kept keeper best baseline base accept accepts accepted pass passes passed improved improve "
        "improves improvement win winner champion success successful succeeded merge merged promote promotes promoted "
        "approve approves approved adopted ok good yes true reference done complete completed finished measured"
    ),
    Fate.DISCARDED: (
        "discard discards discarded reject rejects rejected revert reverts reverted rollback drop dropped worse "
        "regression regressed neutral tentative no false tie tied unchanged same undone declined noise"
    ),
    Fate.CRASHED: (
        "crash crashed crashes error errored errors fail fails failed failure oom nan inf abort aborted exception "
        "broken killed diverged bug memory"
    ),
    Fate.TIMEOUT: "timeout timedout hang hung",
    Fate.INVALID: (
        "invalid disqualified dq blocked overrun over exceeded exceeds oversize oversized limit illegal cheat partial "
        "pruned incomplete unfinished infeasible violation violations violated violates"
    ),
    Fate.NOT_RUN: "skip skipped pending running todo planned queued deferred postponed",
}
ENDED = frozenset(("ok", "success", "successful", "succeeded", "done", "complete", "completed", "finished", "measured"))
"""Words that only say that a run ended, where other rows say that they were kept."""

_FATES = {word: fate for fate, words in _WORDS.items() for word in words.split()}
_NEGATIONS = frozenset({"not", "no", "non", "didnt", "never"})
FAILURES = (Fate.INVALID, Fate.TIMEOUT, Fate.CRASHED)


def read_status(status: str) -> Fate | None:
    """The fate that a status names; None where it names none, or two that exclude each other."""
    words = re.findall(r"[a-z]+", status.lower().replace("'", "").replace("timed out", "timeout"))
    words = [word for word in words if word in _FATES or word in _NEGATIONS]
    found = {_FATES[word] for word in words if word in _FATES}
    if len(words) > 1 and _NEGATIONS.intersection(words):
        return Fate.DISCARDED if found <= {Fate.KEPT, Fate.DISCARDED} else None
    if Fate.KEPT in found and len(found) > 1:
        return None
    found -= {Fate.DISCARDED} if len(found) > 1 else set()
    return next((fate for fate in (*FAILURES, *Fate) if fate in found), None)


def read_statuses(counts: Counter[str], given: Mapping[Fate, Collection[str]]) -> dict[str, Fate]:
    """The fate of each status of a file, by what was said of it or by its words.

    Raises ResultsInvalidError for those that are neither.
    """
    said = {status.strip().lower(): fate for fate, statuses in given.items() for status in statuses}
    fates = {status: fate for status in counts if (fate := said.get(status) or read_status(status))}
    if any(fate == Fate.KEPT and status not in ENDED | {"baseline"} for status, fate in fates.items()):
        fates |= dict.fromkeys(ENDED.intersection(fates) - said.keys(), Fate.DISCARDED)
    unknown = [status for status in counts if status not in fates]
    if unknown:
        raise ResultsInvalidError(
            f"It is not known what became of rows with the status {name_counts(counts, unknown)}. Say it with "
            "--kept, --discarded or --failed and the status, each as often as needed; or name the status's column "
            "with --column status=NAME."
        )
    return fates


def name_counts(counts: Counter[str], statuses: Iterable[str]) -> str:
    """`keep (3), crash (1)`, the most frequent first, 12 at most."""
    ordered = sorted(statuses, key=lambda status: (-counts[status], status))
    more = f" and {len(ordered) - 12} others" if len(ordered) > 12 else ""
    return ", ".join(f"{status[:60] or 'nothing'} ({counts[status]})" for status in ordered[:12]) + more
