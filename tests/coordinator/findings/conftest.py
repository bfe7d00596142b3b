"""A project whose experiments ada and grace measured, written through the services."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from coordinator.db.database import Database
from coordinator.models import Experiment, Finding, Project
from shared.experiments import AxisDirection, Proposal
from shared.findings import FindingDraft
from tests.support.swarm_data import History

ROOT_METRIC = 3.3


@dataclass
class Author:
    """Writes experiments with findings, each by its own transaction."""

    database: Database

    def write(
        self, title: str, axis: str = "WIDTH", value: str = "128", metric: float | None = 3.2, volunteer: str = "ada",
        **words: str,
    ) -> int:  # fmt: skip
        """An experiment on the root, or `on_newest` of all, and its finding; returns the finding's number."""
        with self.database.write() as session:
            project = session.query(Project).one()
            history = History(session, project)
            worker, on_newest = history.add_worker(f"{volunteer}-1", volunteer), words.pop("on_newest", "")
            proposal = Proposal(
                title=title, hypothesis=words.pop("hypothesis", ""), axis=axis, direction=AxisDirection.UP, value=value
            )
            draft = FindingDraft.model_validate({"claim": title, "agent": "scripted"} | words)
            newest = session.query(Experiment).order_by(Experiment.id.desc()).first() if on_newest else None
            parent_sha = newest.commit_sha if newest else project.root_sha
            experiment = history.add_experiment(worker, parent_sha, metric, proposal, draft)
            return session.query(Finding).filter_by(experiment_id=experiment.id).one().id

    def measure(self, finding_id: int, metric: float, volunteer: str = "grace") -> int:
        """One more run of a finding's commit, by another volunteer; returns its number."""
        with self.database.write() as session:
            project = session.query(Project).one()
            history = History(session, project)
            finding = session.get_one(Finding, finding_id)
            sha = history.find_sha(finding.experiment_id)
            return history.measure(history.add_worker(f"{volunteer}-1", volunteer), sha, metric).id


@pytest.fixture
def author(database: Database, project: str) -> Author:
    """An author in a project whose root was measured by ada and grace alike."""
    with database.write() as session:
        row = session.query(Project).filter_by(name=project).one()
        history = History(session, row)
        for volunteer in ("ada", "grace"):
            worker = history.add_worker(f"{volunteer}-1", volunteer)
            for metric in (ROOT_METRIC - 0.003, ROOT_METRIC, ROOT_METRIC + 0.003):
                history.measure(worker, row.root_sha, metric)
    return Author(database)


Write = Callable[..., int]
