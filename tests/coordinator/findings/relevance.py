"""Questions about real experiments, with labels from before there was a search, and how well they are answered."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.models import Project
from shared.experiments import AxisDirection, Proposal
from shared.findings import FindingDraft
from tests.support.swarm_data import History

FOLDER = Path(__file__).parents[2] / "data" / "relevance"
AT = 10


class LabelledQuery(NamedTuple):
    """A question, and the experiments that answer it: `a2` is the second row of session a."""

    words: str
    relevant: frozenset[str]


def read_queries() -> list[LabelledQuery]:
    rows = [line.split("\t") for line in (FOLDER / "queries.tsv").read_text().splitlines()[1:]]
    return [LabelledQuery(words, frozenset(labels.split())) for words, labels in rows]


def read_descriptions() -> dict[str, str]:
    """The text of each experiment's author, by label."""
    return {
        f"{letter}{number}": line.split("\t")[4]
        for letter in "ab"
        for number, line in enumerate((FOLDER / f"session-{letter}.tsv").read_text().splitlines()[1:], start=1)
    }


def write_findings(session: Session) -> dict[int, str]:
    """A finding for each description, which is all that is known of it; labels by the findings' numbers."""
    project = session.query(Project).one()
    history = History(session, project)
    worker = history.add_worker()
    labels = {}
    for label, text in read_descriptions().items():
        proposal = Proposal(title=text, hypothesis="", axis="imported", direction=AxisDirection.CHANGE)
        draft = FindingDraft(claim=text, agent="a published session")
        labels[history.add_experiment(worker, project.root_sha, 3.2, proposal, draft).id] = label
    return labels


def recall(find: Callable[[str], Sequence[str]]) -> float:
    """The mean share of what answers a question that is among the first ten labels found for it.

    Where more than ten answer it, ten are all that can be found.
    """
    return fmean(
        len(query.relevant.intersection(find(query.words)[:AT])) / min(AT, len(query.relevant))
        for query in read_queries()
    )
