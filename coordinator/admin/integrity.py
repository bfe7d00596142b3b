"""Checks that a database is whole: everything that something refers to is there, and the numbers follow from the runs.

It reads one snapshot page by page, so it takes little memory and may run beside a working coordinator.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy.orm import Session

from coordinator.admin import queries
from coordinator.admin.console import ShowProgress
from coordinator.events import history_leaves
from coordinator.evidence import posteriors
from coordinator.evidence.calibration_queries import list_unsettled
from coordinator.lineage import objects
from coordinator.lineage.objects import LoadedObject, ObjectDamagedError, ObjectMissingError
from coordinator.models import Commit, CommitPosterior
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.records import progress
from shared.commits import CommitError, GitObject, parse_commit, parse_tree

OBJECTS_AT_ONCE = 200


def find_problems(session: Session, show_progress: ShowProgress) -> Iterator[str]:
    """All that is wrong, each in one line."""
    yield from (f"the database file: {line}" for line in queries.list_file_damage(session))
    dangling = list(queries.list_dangling(session))
    yield from dangling
    for project, roots in queries.list_wrong_roots(session):
        yield f"project {project.name}: its root is {project.root_sha}, but the commits without parent are {roots}"
    yield from queries.list_contradictions(session)
    yield from _check_objects(session, show_progress)
    yield from _check_commits(session, show_progress)
    if dangling:
        yield "the numbers were not computed again, because rows that they follow from are missing"
    else:
        yield from _check_posteriors(session, show_progress)
        yield from progress.find_differences(session)
        yield from history_leaves.find_differences(session)


def _check_objects(session: Session, show_progress: ShowProgress) -> Iterator[str]:
    """Every object has the content that its name says, and what it refers to is there."""
    done, total, last = 0, objects.count_objects(session), ""
    while names := objects.list_names(session, last, OBJECTS_AT_ONCE):
        referred: dict[str, str] = {}
        for version in _read(session, names):
            if isinstance(version, str):
                yield version
            else:
                referred |= dict.fromkeys(_refer(version.object), f"{version.object.kind} {version.object.sha}")
        for sha in sorted(objects.find_missing(session, referred)):
            yield f"{referred[sha]}: it names the object {sha}, which is missing"
        done, last = done + len(names), names[-1]
        show_progress("objects", done, total)


def _read(session: Session, names: Iterable[str]) -> Iterator[LoadedObject | str]:
    """Objects, or for those that cannot be read the reason."""
    names = list(names)
    try:
        yield from objects.read_versions(session, names).values()
    except (ObjectMissingError, ObjectDamagedError) as error:
        if len(names) == 1:
            yield str(error)
        else:
            for name in names:
                yield from _read(session, [name])


def _refer(obj: GitObject) -> list[str]:
    """The objects that a tree or a commit names. Parents are checked elsewhere."""
    if obj.kind == "tree":
        return [sha for _, _, sha in parse_tree(obj.data)]
    return [parse_commit(obj.data).tree_sha] if obj.kind == "commit" else []


def _check_commits(session: Session, show_progress: ShowProgress) -> Iterator[str]:
    """Every commit's row says what its object says."""
    done, total = 0, queries.count_rows(session, Commit)
    for page in queries.page_rows(session, Commit):
        missing = objects.find_missing(session, [commit.sha for commit in page])
        found = {version.object.sha: version.object for version in _read(session, {c.sha for c in page} - missing)
                 if isinstance(version, LoadedObject)}  # fmt: skip
        for commit in page:
            if commit.sha in missing:
                yield f"commit {commit.sha}: its object is missing"
            elif commit.sha in found:  # one that cannot be read was named with the objects
                yield from _compare(commit, found[commit.sha])
        done += len(page)
        show_progress("commits", done, total)


def _compare(commit: Commit, obj: GitObject) -> Iterator[str]:
    try:
        parsed = parse_commit(obj.data)
    except CommitError as error:
        yield f"commit {commit.sha}: {error}"
        return
    if parsed.tree_sha != commit.tree_sha:
        yield f"commit {commit.sha}: its tree is {parsed.tree_sha}, its row says {commit.tree_sha}"
    if parsed.parent_sha != commit.parent_sha:
        yield f"commit {commit.sha}: its parent is {parsed.parent_sha}, its row says {commit.parent_sha}"


def _check_posteriors(session: Session, show_progress: ShowProgress) -> Iterator[str]:
    """Each posterior follows from runs and its nearest ancestor's posterior; so, by induction, all follow from runs.
    Those that are about to be derived again in the background do not yet, and are left out."""
    unsettled = {(epoch.project_id, epoch.hardware_class) for epoch in list_unsettled(session)}
    contracts = {project.id: projects.contract_of(project) for project in list_projects(session)}
    done, total = 0, queries.count_rows(session, CommitPosterior)
    for page in queries.page_rows(session, CommitPosterior):
        around = queries.load_around(session, page)
        for row in page:
            if (row.project_id, row.hardware_class) in unsettled:
                continue
            if wrong := posteriors.find_wrong_numbers(session, contracts[row.project_id], row):
                yield f"posterior of commit {row.commit_sha} on {row.hardware_class}: {wrong}"
        del around
        done += len(page)
        show_progress("posteriors", done, total)
