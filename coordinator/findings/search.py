"""Search: by words and by meaning, fused by reciprocal rank (Cormack, Clarke and Büttcher 2009)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.experiments.filters import Filters
from coordinator.experiments.service import view_finding
from coordinator.experiments.text_index import text_index_of
from coordinator.experiments.tokenizer import find_best_part, list_terms
from coordinator.findings import queries, service
from coordinator.findings.queries import FindingRow
from coordinator.findings.semantic_index import count_waiting, find_by_meaning
from coordinator.models import view_of
from coordinator.novelty.similarity import Similarity
from shared.findings import FindingSummary, SearchHit, SearchPage, Snippet

FUSION = 60
"""The constant of reciprocal-rank fusion: how much the first ranks count beyond those after them."""

DEPTH, DEPTH_WITH_FILTERS = 100, 1_000
"""Number of findings of each part that are fused; more with filters, since most may not fit."""

CHECKED_FIRST = 200
"""Number of findings checked against the filters first; each further batch is twice as large."""


class Ranked(NamedTuple):
    """A finding with its ranks in both parts, from 1 and before filters; None where that part did not find it."""

    finding_id: int
    score: float
    text_rank: int | None
    meaning_rank: int | None


class Ranking(NamedTuple):
    """Findings, best first, and whether they were searched by meaning as well as by words."""

    items: list[Ranked]
    meaning_used: bool


def view_page(session: Session, similarity: Similarity, words: str, filters: Filters, limit: int) -> SearchPage:
    """The findings that match a few words best. Raises FindingHiddenError for an author in quarantine."""
    service.check_author_shown(session, filters.volunteer)
    ranking = rank(session, similarity, words, filters, limit)
    return SearchPage(
        items=view_hits(session, words, ranking.items, filters.hardware_class),
        waiting_for_vectors=count_waiting(session, similarity),
        meaning_used=ranking.meaning_used,
    )


def rank(session: Session, similarity: Similarity, words: str, filters: Filters, limit: int) -> Ranking:
    """The findings of either part that fit the filters, best first."""
    depth = DEPTH if filters.is_plain else DEPTH_WITH_FILTERS
    projects = [filters.project_id] if filters.project_id is not None else queries.list_project_ids(session)
    by_words = text_index_of(session).find(session, filters.project_id, list_terms(words), depth)
    by_meaning = find_by_meaning(session, similarity, words, projects, depth)
    fitting = _keep_fitting(session, fuse(by_words, by_meaning or []), filters)
    return Ranking(list(islice(fitting, limit)), meaning_used=by_meaning is not None)


def _keep_fitting(session: Session, ranked: Sequence[Ranked], filters: Filters) -> Iterator[Ranked]:
    """Those that the filters let through. No more are asked about than are taken."""
    start, size = 0, CHECKED_FIRST
    while some := ranked[start : start + size]:
        fitting = queries.keep_fitting(session, sorted(one.finding_id for one in some), filters)
        yield from (one for one in some if one.finding_id in fitting)
        start, size = start + size, 2 * size


def fuse(by_words: Sequence[int], by_meaning: Sequence[int]) -> list[Ranked]:
    """One list of two, each the best first."""
    text_ranks = {finding_id: rank for rank, finding_id in enumerate(by_words, start=1)}
    meaning_ranks = {finding_id: rank for rank, finding_id in enumerate(by_meaning, start=1)}
    ranked = []
    for finding_id in text_ranks.keys() | meaning_ranks.keys():
        ranks = text_ranks.get(finding_id), meaning_ranks.get(finding_id)
        score = sum(1 / (FUSION + rank) for rank in ranks if rank is not None)
        ranked.append(Ranked(finding_id, score, *ranks))
    return sorted(ranked, key=lambda one: (-one.score, -one.finding_id))


def view_hits(session: Session, words: str, ranked: Sequence[Ranked], hardware_class: str | None) -> list[SearchHit]:
    """The hits, each with the part of its finding that matches best."""
    rows = queries.list_by_ids(session, [one.finding_id for one in ranked], hardware_class)
    ranks = {one.finding_id: one for one in ranked}
    terms = list_terms(words)
    return [
        _view_hit(row, summary, ranks[summary.id], terms)
        for row, summary in zip(rows, service.view_summaries(session, rows), strict=True)
    ]


def _view_hit(row: FindingRow, summary: FindingSummary, ranked: Ranked, terms: Sequence[str]) -> SearchHit:
    words, experiment = view_finding(row.finding, summary.posterior, row.outcome), row.experiment
    fields = (
        ("claim", words.claim),
        ("title", experiment.title),
        ("mechanism", words.mechanism),
        ("hypothesis", experiment.hypothesis),
        ("caveats", words.caveats),
        ("follow_ups", words.follow_ups),
        ("refuted_by", words.refuted_by),
    )
    name, text, marks = find_best_part(fields, terms)
    return view_of(SearchHit, ranked, finding=summary, snippet=Snippet(field=name, text=text, marks=marks))
