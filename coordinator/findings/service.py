"""Storing findings, and showing them in lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from sqlalchemy.orm import Session

from coordinator.db.cache import CachePerDatabase
from coordinator.db.database import Database
from coordinator.db.engine import Conn
from coordinator.db.locks import AdvisoryLock, try_lock_until_commit
from coordinator.evidence import service as evidence
from coordinator.evidence.posteriors import DerivedPosterior
from coordinator.evidence.statistics import columns_of
from coordinator.experiments.failures import classify_failure, describe_failure
from coordinator.experiments.filters import Filters, Order
from coordinator.experiments.listing import list_page, settle
from coordinator.experiments.text_index import IndexedText, text_index_of
from coordinator.experiments.tokenizer import list_words
from coordinator.findings import candidates, queries, topic_counts
from coordinator.findings.queries import FindingRow
from coordinator.findings.typed_numbers import MeasuredResult, replace_results
from coordinator.http.errors import SwarmError
from coordinator.http.pagination import cut_page
from coordinator.models import Experiment, Finding, Project, view_of
from shared.claims import WORDS, drop_numbers, write_out
from shared.experiments import Proposal
from shared.findings import FindingDraft, FindingState, FindingSummary
from shared.protocol import Page, now
from shared.runs import RunReport
from shared.topics import OpenFollowUp

ROWS_AT_ONCE = 1_000

WORDS_AT_ONCE, TOPICS_AT_ONCE = 200, 20
"""Number of findings whose words a decision puts back into the index, and of topics that it counts again: results wait
for it, so others follow in the background."""

FOLLOW_SECONDS = 2.0
"""Seconds after which that is done for now, so that a coordinator that stops need not wait for it."""

_followed = CachePerDatabase[str, int](1)
"""The newest quarantine, or end of one, that this process has followed up."""


class FindingHiddenError(SwarmError, status=410, title="Hidden while its author is in quarantine"):
    """Papers of an account or a worker in quarantine are hidden, and come back if the quarantine ends."""


@dataclass(frozen=True)
class FindingOrigin:
    """Whose words a finding's are: its experiment, and what its first run said.

    `pace` is its run's tokens a second over its parent's, None where that is not known.
    """

    project_id: int
    experiment_id: int
    proposal: Proposal
    run: RunReport
    posterior: DerivedPosterior | None
    pace: float | None = None


def store_finding(session: Conn, origin: FindingOrigin, draft: FindingDraft) -> int:
    """Add an experiment's finding, after its first run; returns its id."""
    effect = origin.posterior.effect if origin.posterior else None
    draft = replace_results(draft, origin.proposal, _list_measured(origin))
    finding_id = queries.add_finding(
        session,
        draft.model_dump()
        | {
            "experiment_id": origin.experiment_id,
            "project_id": origin.project_id,
            "hardware_class": origin.run.hardware.hardware_class,
            "version": 1,
            "state": FindingState.PUBLISHED,
            "failure": classify_failure(origin.run),
            "pace": origin.pace,
            "written_verdict": origin.posterior.verdict if origin.posterior else None,
            "created_at": now(),
        }
        | columns_of(written_effect=effect),
    )
    queries.add_tags(session, finding_id, dict.fromkeys(draft.tags))
    indexed = index_of(finding_id, origin.project_id, draft, origin.proposal)
    text_index_of(session).put(session, indexed, is_new=True)
    return finding_id


def _list_measured(origin: FindingOrigin) -> MeasuredResult:
    """The results that an author could know when writing the finding."""
    known, metric = origin.posterior, origin.run.metric
    if known is None or known.effect is None:
        return MeasuredResult((metric,), None, (), 0.0)
    parent = known.metric.mean - known.effect.mean
    effects = (known.effect.mean,) if metric is None else (metric - parent, known.effect.mean)
    return MeasuredResult((metric, known.metric.mean), parent, effects, known.effect.sd)


def cite(session: Conn, experiment_id: int, finding_ids: Sequence[int]) -> None:
    """Store which findings an experiment's agent had to read."""
    queries.add_citations(session, experiment_id, finding_ids)


def hide_quarantined(session: Session, volunteer_id: int) -> None:
    """Hide the findings of an account's workers that are in quarantine, and show those again that are in none.

    Hidden ones are not in the index of words, nor in the counts of topics. Of many, the words come back, and the topics
    are counted, by `follow_quarantines`.
    """
    hidden = queries.hide_quarantined(session, volunteer_id, is_hidden=True)
    text_index_of(session).remove(session, hidden)
    shown = queries.hide_quarantined(session, volunteer_id, is_hidden=False)
    topic_counts.recount_of(session, [*hidden, *shown], TOPICS_AT_ONCE)
    _index_some(session, WORDS_AT_ONCE)
    candidates.forget(session)


def follow_quarantines(database: Database) -> None:
    """Do what the newest quarantine, or end of one, left to be done, for some seconds: in short transactions, beside
    requests. A process that starts looks once whether another one left something."""
    until = monotonic() + FOLLOW_SECONDS
    with database.read() as session:
        newest, followed = queries.find_newest_quarantine(session), _followed.for_database(session)
    if newest is None or followed.find("id") == newest.id:
        return
    recount = partial(topic_counts.recount_oldest, since=newest.created_at)
    for step in (partial(_index_some, limit=WORDS_AT_ONCE), recount):
        is_more = True
        while is_more:
            if monotonic() > until:
                return
            with database.write() as session:
                if not try_lock_until_commit(session, AdvisoryLock.PROGRESS):
                    return  # another task counts, which may take long after a decision
                is_more = bool(step(session))
    followed.store("id", newest.id)


def list_published(session: Session, volunteer_id: int) -> list[int]:
    """The newest papers of an account that are not retracted, at most ROWS_AT_ONCE."""
    return queries.list_published(session, volunteer_id, ROWS_AT_ONCE)


def lock_of_account(session: Session, volunteer_id: int) -> dict[int, str]:
    """The states of all papers of an account by their number, locked until the transaction ends."""
    return queries.lock_states(session, volunteer_id)


def view_of_account(session: Session, volunteer_id: int, before_id: int | None, limit: int) -> Page[FindingSummary]:
    """Papers of an account, the newest first, retracted ones included."""
    ids = queries.list_ids_of_account(session, volunteer_id, before_id, limit + 1)
    views = view_summaries(session, queries.list_by_ids(session, ids)) if ids else []
    return cut_page(views, limit, lambda view: view.id)


def check_shown(session: Conn, finding: Finding) -> None:
    """Raise FindingHiddenError, with the reason, for a finding that is hidden."""
    if finding.is_hidden:
        author, reason = queries.find_quarantine(session, finding)
        raise FindingHiddenError(
            f"Finding {finding.id} is hidden, because a maintainer has put {author} in quarantine: {reason}"
        )


def check_author_shown(session: Conn, volunteer: str | None) -> None:
    """Raise FindingHiddenError, with the reason, for an account whose findings are hidden."""
    reason = queries.find_quarantine_of(session, volunteer) if volunteer is not None else None
    if reason is not None:
        raise FindingHiddenError(
            f"Findings of {volunteer} are hidden, because a maintainer has put it in quarantine: {reason}"
        )


def is_indexed(session: Conn) -> bool:
    """Whether the index of words holds every finding."""
    return not text_index_of(session).list_missing(session, 1)


def index_missing(session: Session) -> int:
    """Put findings into the index of words that came in past it (an import, an older schema); returns how many."""
    done = 0
    while some := _index_some(session, ROWS_AT_ONCE):
        done += some
    return done


def _index_some(session: Session, limit: int) -> int:
    index = text_index_of(session)
    ids = index.list_missing(session, limit)
    for finding, experiment in queries.list_texts(session, ids):
        index.put(session, index_of(finding.id, finding.project_id, finding, experiment), is_new=True)
    return len(ids)


def index_of(
    finding_id: int, project_id: int, finding: Finding | FindingDraft, experiment: Experiment | Proposal
) -> IndexedText:
    """The words of a finding."""
    claim, mechanism, caveats, refuted_by, follow_ups = (drop_numbers(getattr(finding, name)) for name in WORDS)
    head = (claim, experiment.title, experiment.axis, experiment.value, *finding.tags)
    body = (experiment.hypothesis, mechanism, caveats, refuted_by, follow_ups)
    return IndexedText(finding_id, project_id, list_words("\n".join(head)), list_words("\n".join(body)))


def view_page(
    session: Session, project: Project | None, filters: Filters, order: Order, cursor: str | None, limit: int
) -> Page[FindingSummary]:
    """A page of findings; it may be short and go on nevertheless.

    Raises FindingHiddenError for an author in quarantine, CursorInvalidError, OrderInvalidError.
    """
    check_author_shown(session, filters.volunteer)
    filters, order = settle(session, project, filters, order, by_first_class=False)
    ids, following = list_page(session, filters, order, cursor, limit, *queries.are_listed(filters))
    rows = queries.list_of_experiments(session, ids, filters.hardware_class)
    return Page(items=view_summaries(session, rows), next_cursor=following)


def view_summaries(session: Conn, rows: Sequence[FindingRow]) -> list[FindingSummary]:
    citations = queries.count_citations(session, [row.finding.id for row in rows])
    return [_view_summary(row, citations[row.finding.id]) for row in rows]


def view_follow_ups(session: Session, ids: Sequence[int]) -> list[OpenFollowUp]:
    """The follow-ups of findings in the order of `ids`, the same words once, with the numbers as of now."""
    found: dict[str, OpenFollowUp] = {}
    for row in queries.list_by_ids(session, ids):
        text = write_out(row.finding.follow_ups, evidence.view_posterior(row.posterior), row.outcome)
        one = OpenFollowUp(finding_id=row.finding.id, experiment_id=row.experiment.id, text=text)
        found.setdefault(" ".join(text.split()), one)
    return [one for words, one in found.items() if words]


def _view_summary(row: FindingRow, citations: int) -> FindingSummary:
    finding, experiment, posterior = row.finding, row.experiment, evidence.view_posterior(row.posterior)
    return view_of(
        FindingSummary, finding, claim=write_out(finding.claim, posterior, row.outcome), project=row.project,
        state=FindingState.HIDDEN if finding.is_hidden else finding.state, title=experiment.title,
        axis=experiment.axis, topic=experiment.topic, direction=experiment.direction, value=experiment.value,
        branch=row.branch, volunteer=row.volunteer, outcome=row.outcome,
        failure=describe_failure(finding.failure, row.posterior.verdict if row.posterior else None, finding.pace),
        posterior=posterior, citations=citations, done_at=experiment.done_at,
    )  # fmt: skip
