"""Search finds what real questions ask for, and both parts together find more than either alone."""

from fastapi import FastAPI

from coordinator.db.database import Database
from coordinator.experiments.filters import Filters
from coordinator.experiments.text_index import text_index_of
from coordinator.experiments.tokenizer import list_terms
from coordinator.findings import queries, search
from coordinator.findings.semantic_index import embed_missing, find_by_meaning
from coordinator.models import Finding
from tests.coordinator.findings.relevance import read_descriptions, read_queries, recall, write_findings


def test_every_label_is_an_experiment() -> None:
    labels = frozenset().union(*(query.relevant for query in read_queries()))
    assert labels <= read_descriptions().keys() and len(read_queries()) == 50


def test_both_parts_together_find_more_than_either(database: Database, app: FastAPI, project: str) -> None:
    with database.write() as session:
        by_experiment = write_findings(session)
        labels = {row.id: by_experiment[row.experiment_id] for row in session.query(Finding)}
    similarity = app.state.similarity
    embed_missing(database, similarity)
    similarity.prepare()
    with database.read() as session:
        (project_id,) = queries.list_project_ids(session)
        filters = Filters(project_id=project_id)
        index = text_index_of(session)
        words = recall(lambda asked: [labels[one] for one in index.find(session, project_id, list_terms(asked), 100)])
        meaning = recall(
            lambda asked: [labels[one] for one in find_by_meaning(session, similarity, asked, [project_id], 100) or []]
        )
        both = recall(
            lambda asked: [labels[one.finding_id] for one in search.rank(session, similarity, asked, filters, 10).items]
        )
    print(f"recall@10: words {words:.3f}, meaning {meaning:.3f}, both {both:.3f}")  # noqa: T201 - for `pytest -s`
    assert both > max(words, meaning)
    assert words > 0.5 and meaning > 0.5
