"""Imports a session of the original autoresearch loop as a project, in one transaction; a second import adds new lines.

A row becomes a commit, a run and a finding in the tables of workers' results, so the project can be browsed, searched
and worked on as any other. Its runs belong to a worker of its own, of a volunteer without a token.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from textwrap import shorten
from typing import NamedTuple
from uuid import UUID, uuid5

from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.autoresearch.git_repository import NO_AUTHOR
from coordinator.autoresearch.lookup import UNKNOWN_AUTHOR, find_session, list_lines, map_commits
from coordinator.autoresearch.plan import PlannedRow
from coordinator.autoresearch.reading import Code, ImportOptions, Material, choose_name, read_material
from coordinator.events import service as events
from coordinator.evidence import service as evidence
from coordinator.evidence.epochs import RunOrigin
from coordinator.experiments import service as experiments
from coordinator.experiments.lookup import find_experiment_by_commit
from coordinator.findings import service as findings
from coordinator.findings.service import FindingOrigin
from coordinator.findings.steps import read_change
from coordinator.http.errors import SwarmError
from coordinator.lineage import branches
from coordinator.lineage import service as lineage
from coordinator.lineage.commits import get_commit
from coordinator.models import Branch, ImportedLine, ImportedSession, Lease, Project
from coordinator.novelty.fingerprint import fingerprint
from coordinator.projects import service as projects
from coordinator.projects.lookup import find_project
from coordinator.projects.service import ProjectExistsError
from coordinator.workers import service as workers
from shared.commits import CommitWords
from shared.events import EventKind
from shared.experiments import JobKind, Proposal
from shared.findings import MAX_FINDING_WORDS, FindingDraft
from shared.formatting import count_noun
from shared.leases import LeaseState, Phase
from shared.protocol import clean_text, now
from shared.runs import MAX_REASON, RunOutcome, RunReport, RunSeconds

VOLUNTEER = "imported-sessions"
AGENT = "autoresearch"
SANDBOX = "imported"
NAMESPACE = UUID("6f0c2c0e-5d5c-5c0b-9a5e-2b1c3f7d8a90")  # of ids made from a project's name and a line's number

NO_CODE = "The session's history does not hold the code of this experiment."
MAX_TITLE, MAX_TEXT = 200, 4_000
ELLIPSIS = "…"
MAX_AUTHOR = 80
NEVER_KNOWN = frozenset((
    "starting_seconds", "training_seconds", "scoring_seconds", "total_seconds", "tokens", "parameters", "scored_bytes",
    "started_at",
))  # fmt: skip
"""Columns of a run that no session's log fills."""

NO_TOKEN = "0" * 64  # the hash of no token: nobody can deliver to such a lease


class SessionChangedError(SwarmError, status=409, title="The session is not the one that was imported before"):
    pass


class ImportReport(NamedTuple):
    """The result of an import. `rows` counts the readable rows of the file, `added` the new ones."""

    project: str
    is_new: bool
    rows: int
    added: int
    account: list[str]


def import_session(read: Session, write: Session, options: ImportOptions) -> ImportReport:
    """Import a session, or what is new of one. `write` is not touched before everything was read.

    Raises RepositoryInvalidError, ResultsInvalidError, ProjectExistsError, SessionChangedError.
    """
    return _Import(write, _read(read, options)).store()


def preview_session(read: Session, options: ImportOptions) -> list[str]:
    """How a session would be read, in sentences. Raises as `import_session` does."""
    material = _read(read, options)
    return [f"Rows: {count_noun(len(material.plan.steps), 'experiment')} and further runs.", *material.account]


def _read(read: Session, options: ImportOptions) -> Material:
    known = find_project(read, choose_name(options))
    if known is not None and find_session(read, known.id) is None:
        raise ProjectExistsError(f"The project {known.name} was not imported. Choose another name with --name.")
    contract = projects.contract_of(known) if known else None
    return read_material(options, contract, known.contract if known else "")


def describe(report: ImportReport) -> list[str]:
    """Sentences that say what was done, and how the session was read."""
    verb = "Created" if report.is_new else "Added to"
    return [f"{verb} project {report.project}: {report.added} of {report.rows} rows are new.", *report.account]


class _Import:
    """One import. Commits are known by the plan's keys, and stored under the shas that these become here."""

    def __init__(self, session: Session, material: Material) -> None:
        self._session, self._material = session, material
        self._plan, self._contract = material.plan, material.contract
        self._hardware_class = material.hardware.hardware_class
        self._shas: dict[str, str] = {}

    def store(self) -> ImportReport:
        project, is_new = self._open_project()
        stored = list_lines(self._session, project.id)
        self._check_unchanged(stored)
        commits = map_commits(self._session, project.id)
        self._shas |= {step.key: commits[step.row.line] for step in self._plan.steps if step.row.line in commits}
        branch = branches.get_branch_by_name(self._session, project, projects.FIRST_BRANCH)
        new = [step for step in self._plan.steps if step.row.line > len(stored)]
        runs = {step.row.line: self._store_step(project, branch, step) for step in new}
        self._store_lines(project.id, len(stored), runs)
        self._move_head(branch, is_new)
        if new:
            events.record(self._session, EventKind.SESSION_IMPORTED, project.id, rows=len(new))
        return ImportReport(project.name, is_new, len(self._plan.steps), len(new), self._material.account)

    def _open_project(self) -> tuple[Project, bool]:
        """The project, and whether it is new. A known one keeps its root, whatever harness imports bring now."""
        material, source_sha, name = self._material, self._plan.root, self._contract.project.name
        volunteer = accounts.find_or_add_volunteer(self._session, VOLUNTEER)
        self._worker_id = workers.register_worker(self._session, volunteer.id, name, AGENT, material.hardware).id
        project = find_project(self._session, name)
        if project is not None:
            known = find_session(self._session, project.id)
            if known is None or known.source_sha != source_sha:
                raise SessionChangedError("Its first commit is another one. Import it as --name OTHER.")
            self._shas[source_sha] = project.root_sha
            return project, False
        root = lineage.build_root(material.root_files, _name_source(material.codes[source_sha].words, source_sha))
        self._shas[source_sha] = root.sha
        project = projects.add_project(self._session, self._contract, material.contract_text, root, now())
        imported = ImportedSession(
            project_id=project.id, source=material.source, branch=material.branch, source_sha=source_sha,
            worker_id=self._worker_id, imported_at=now(),
        )  # fmt: skip
        self._session.add(imported)
        return project, True

    def _check_unchanged(self, stored: Sequence[bytes]) -> None:
        """Raises SessionChangedError where a line is not as it was; the last may have got its end since."""
        pairs = zip_longest(stored, self._material.results.lines[: len(stored)], fillvalue=b"")
        for number, (content, found) in enumerate(pairs, start=1):
            if found.rstrip(b"\r\n") != content.rstrip(b"\r\n"):
                raise SessionChangedError(f"Line {number} has changed since. Import the file as --name OTHER.")

    def _store_step(self, project: Project, branch: Branch, step: PlannedRow) -> int:
        """Store a row: its commit and experiment where it is their first, and its run, whose id is returned."""
        lease_id = name_lease(project.name, step.row.line)
        kind, experiment_id = JobKind.IMPROVE, None
        if step.parent is not None:
            experiment_id = self._store_experiment(project, branch, step, lease_id)
        else:
            kind, sha = JobKind.REPLICATE, self._shas[step.key]
            self._add_lease(project, branch, step, kind, sha, None)
            if made := find_experiment_by_commit(self._session, sha):
                experiment_id = made.id
        report, unknown = self._make_report(project.name, step)
        origin = RunOrigin(
            project.id, self._worker_id, lease_id, kind, experiment_id, asks_for_replication=False, unknown=unknown,
            metrics=step.row.further,
        )  # fmt: skip
        stored = evidence.store_run(self._session, self._contract, origin, report)
        if step.parent is not None and experiment_id is not None:
            finding = FindingOrigin(project.id, experiment_id, self._propose(step), report, stored.posterior)
            findings.store_finding(self._session, finding, _draft(step, self._author_of(step)))
        return stored.id

    def _store_experiment(self, project: Project, branch: Branch, step: PlannedRow, lease_id: UUID) -> int:
        assert step.parent is not None
        parent = get_commit(self._session, self._shas[step.parent])
        code = self._material.codes.get(step.key)
        words = _name_source(code.words, step.key) if code else _describe_lost(step, self._fallback_time(step))
        built = lineage.build_child(self._session, parent, code.files if code else {}, words)
        lineage.store_commit(self._session, project.id, built, has_code=code is not None)
        self._shas[step.key] = built.sha
        known_as = (built.tree_sha, fingerprint(code.files)) if code else None
        self._add_lease(project, branch, step, JobKind.IMPROVE, parent.sha, known_as)
        why = "Imported." if code else f"Imported. {NO_CODE}"
        branch.experiments += 1
        return experiments.store_experiment(
            self._session, project.id, built.sha, parent.sha, lease_id, self._worker_id, branch.id, JobKind.IMPROVE,
            why, self._propose(step), self._time_of(step),
        )  # fmt: skip

    def _add_lease(
        self, project: Project, branch: Branch, step: PlannedRow, kind: JobKind, base_sha: str,
        code: tuple[str, str] | None,
    ) -> None:  # fmt: skip
        """Add a finished lease; `code` (tree, fingerprint) lets later proposals of the same code be recognised."""
        moment = self._fallback_time(step)
        lease = Lease(
            id=name_lease(project.name, step.row.line), project_id=project.id, worker_id=self._worker_id,
            branch_id=branch.id, hardware_class=self._hardware_class, kind=kind, state=LeaseState.DONE,
            base_sha=base_sha, seed=0, why="Done before it was imported.", token_sha256=NO_TOKEN,
            phase=Phase.REPORTING, share=1.0,
            proposed_tree_sha=code[0] if code else None, proposed_fingerprint=code[1] if code else None,
            issued_at=moment, phase_started_at=moment, heartbeat_at=moment, progressed_at=moment, expires_at=moment,
            deadline_at=moment, ended_at=moment, result_key=name_run(project.name, step.row.line),
        )  # fmt: skip
        self._session.add(lease)
        self._session.flush()

    def _code_of(self, step: PlannedRow) -> Code | None:
        """The commit that a row's experiment is; None for one without code, and for a further run."""
        is_own = step.parent is not None or step.row.line not in self._plan.repeats
        return self._material.codes.get(step.key) if is_own else None

    def _time_of(self, step: PlannedRow) -> datetime | None:
        """When a row was measured: as it says, or when its commit was written; None where neither is known."""
        code = self._code_of(step)
        written_at = code.words.authored_at if code else 0
        return step.row.at or (datetime.fromtimestamp(written_at, UTC) if written_at else None)

    def _fallback_time(self, step: PlannedRow) -> datetime:
        """A time for what cannot be without one (a git commit, a lease): that of the row, else of the commit above."""
        key = step.key if step.key in self._material.codes else step.parent
        code = self._material.codes.get(key or "") or self._material.codes[self._plan.root]
        return self._time_of(step) or datetime.fromtimestamp(code.words.authored_at, UTC)

    def _author_of(self, step: PlannedRow) -> str:
        """The name of the commit's author, as the row says or git."""
        code = self._code_of(step)
        author = step.row.author or (code.words.author.partition(" <")[0] if code else "")
        return clean_text(author)[:MAX_AUTHOR].strip() or UNKNOWN_AUTHOR

    def _propose(self, step: PlannedRow) -> Proposal:
        words = step.row.description
        change = read_change(re.sub(r"(?<=\d),(?=\d)", ".", words) if self._material.results.decimal_comma else words)
        return Proposal(
            title=_title(words), hypothesis=clean_text(step.row.hypothesis)[:MAX_TEXT], axis=clean_text(change.axis),
            direction=change.direction, value=clean_text(change.value),
        )  # fmt: skip

    def _make_report(self, project: str, step: PlannedRow) -> tuple[RunReport, frozenset[str]]:
        """The row's run, and the columns of which the session does not say anything."""
        row, moment = step.row, self._time_of(step)
        at = moment or self._fallback_time(step)
        known = {"seed": row.seed, "steps": row.steps, "peak_memory_mib": row.peak_memory_mib}
        unknown = {name for name, value in known.items() if value is None} | NEVER_KNOWN
        said = f"{row.status}: {row.description}" + (f" ({row.reason})" if row.reason else "")
        report = RunReport(
            id=name_run(project, row.line), commit_sha=self._shas[step.key], outcome=row.outcome, metric=row.metric,
            reason="" if row.outcome == RunOutcome.OK else clean_text(said)[:MAX_REASON], started_at=at, finished_at=at,
            seconds=RunSeconds(starting=0, training=0, scoring=0, total=0), hardware=self._material.hardware,
            sandbox=SANDBOX, **{name: value or 0 for name, value in known.items()},
        )  # fmt: skip
        return report, frozenset(unknown if moment else unknown | {"finished_at"})

    def _store_lines(self, project_id: int, stored: int, runs: dict[int, int]) -> None:
        lines, problems = self._material.results.lines, self._material.results.unreadable
        self._session.add_all(
            ImportedLine(
                project_id=project_id, line=number, content=content, run_id=runs.get(number),
                problem=problems.get(number),
            )
            for number, content in enumerate(lines[stored:], start=stored + 1)
        )  # fmt: skip
        if stored and stored <= len(lines):  # the last line may have got its end since
            self._session.get_one(ImportedLine, (project_id, stored)).content = lines[stored - 1]
        self._session.flush()

    def _move_head(self, branch: Branch, is_new: bool) -> None:
        """Let the branch begin at the best commit that was kept; where the swarm has moved it, it stays there."""
        head = self._shas[self._plan.head]
        is_imported = branch.head_sha in self._shas.values()
        if head != branch.head_sha and (is_new or is_imported):
            branches.move_head(self._session, branch, head, VOLUNTEER, "The best commit that the session kept.")


def _name_source(words: CommitWords, source: str) -> CommitWords:
    """A commit's author, time and message, with the repository's hash of it appended."""
    return CommitWords(words.author, words.authored_at, f"{words.message.rstrip()}\n\nImported-From: {source}\n")


def _describe_lost(step: PlannedRow, moment: datetime) -> CommitWords:
    message = f"{clean_text(step.row.description)}\n\n{NO_CODE}\n\nImported-From: line {step.row.line} of the log\n"
    return CommitWords(NO_AUTHOR, max(0, int(moment.timestamp())), message)


def _title(description: str) -> str:
    """The description, or what fits of it, in whole words where it has any, and an ellipsis."""
    words = " ".join(clean_text(description).split()) or "without a description"
    title = shorten(words, MAX_TITLE, placeholder=ELLIPSIS)
    return title if title != ELLIPSIS else f"{words[: MAX_TITLE - 1]}{ELLIPSIS}"


def _draft(step: PlannedRow, author: str) -> FindingDraft:
    """The row's words as a finding's. What the title leaves out of the description goes on in the mechanism."""
    row, claim = step.row, _title(step.row.description)
    words = " ".join(clean_text(row.description).split())
    rest = f"{ELLIPSIS} {words[len(claim) - 1 :].strip(' .')}." if len(words) > MAX_TITLE else ""
    left = MAX_FINDING_WORDS - len(claim.split())
    mechanism = _cut(f"{rest} {clean_text(row.mechanism)}", left)
    follow_ups = _cut(clean_text(row.follow_ups), left - len(mechanism.split()))
    return FindingDraft(claim=claim, mechanism=mechanism, follow_ups=follow_ups, agent=author)


def _cut(text: str, most: int) -> str:
    """At most so many words of a text."""
    words = text.split()
    return " ".join(words if len(words) <= most else [*words[: most - 1], ELLIPSIS][: max(0, most)])[:MAX_TEXT]


def name_lease(project: str, line: int) -> UUID:
    return uuid5(NAMESPACE, f"{project} lease {line}")


def name_run(project: str, line: int) -> UUID:
    return uuid5(NAMESPACE, f"{project} run {line}")
