"""Changes that follow at once from a person's decision on runs: posteriors of their commits, and of what rests on them.

A decision may concern tens of thousands of runs, and results wait while it is stored. So only so many posteriors are
derived with it; the others, and the estimates of the class, follow in the background (`renewal.py`).
"""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import update
from sqlalchemy.orm import Session

from coordinator.evidence import calibration_queries, epochs, queries
from coordinator.evidence.posteriors import DerivedPosterior, derive_and_store, find_model
from coordinator.lineage.commits import CommitRow, get_commit, list_children, list_commits
from coordinator.models import ClassProgress, Project
from coordinator.models.base import is_of_class
from coordinator.projects import service as projects
from shared.protocol import now

AT_ONCE = 200
"""Number of posteriors that are derived with a decision, in each class that it concerns."""


def follow(
    session: Session, project_id: int, hardware_class: str, shas: Iterable[str], *, ends_epoch: bool
) -> dict[str, DerivedPosterior]:
    """Derive what follows from a decision on commits in a class, and leave to the background what is too much for now:
    all posteriors, after the next epoch's estimates if the decision `ends_epoch`. Returns those that were derived."""
    project = session.get_one(Project, project_id)
    epoch = epochs.begin_run(session, projects.contract_of(project), project_id, hardware_class)
    derived = _refresh(session, project, hardware_class, set(shas))
    calibration_queries.derive_later(session, get_commit(session, project.root_sha), hardware_class)
    if ends_epoch:
        calibration_queries.change_epoch(session, epoch, ended_at=now())
    is_class = is_of_class(ClassProgress, project_id, hardware_class)  # other runs count, or another commit may lead
    session.execute(update(ClassProgress).where(is_class).values(is_stale=True))
    return derived


def _refresh(session: Session, project: Project, hardware_class: str, shas: set[str]) -> dict[str, DerivedPosterior]:
    """Derive the posteriors of commits and of those below them, as far as they change, from the root downwards.

    Beyond AT_ONCE the commits lose their posterior; what rests on them follows in the background.
    """
    contract = projects.contract_of(project)
    model = find_model(session, contract, project.id, hardware_class)
    due: defaultdict[int, dict[str, CommitRow]] = defaultdict(dict)
    for commit in list_commits(session, list(shas)):
        due[commit.depth][commit.sha] = commit
    derived: dict[str, DerivedPosterior] = {}
    left = AT_ONCE
    while due and left:
        of_depth = due[depth := min(due)]
        some = [of_depth.pop(sha) for sha in sorted(of_depth)[:left]]
        if not of_depth:
            del due[depth]
        left -= len(some)
        found, settled = derive_and_store(session, contract, model, some, hardware_class)
        derived |= found
        for child in list_children(session, [commit.sha for commit in some if commit.sha not in settled]):
            due[child.depth][child.sha] = child
    waiting = [commit for of_depth in due.values() for commit in of_depth.values()]
    lost = [commit.sha for commit in waiting if commit.sha in shas]
    queries.remove_posteriors(session, lost, hardware_class)
    return derived
