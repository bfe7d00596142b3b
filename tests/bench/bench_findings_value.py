"""Would agents' packs have shown that what they propose was resolved? Recorded sessions, replayed row by row.

python -m tests.bench.bench_findings_value                       the two sessions of tests/data
python -m tests.bench.bench_findings_value FILE.tsv ...          others, as `results.tsv` of the original loop

Before each experiment of a session, only the rows before it are imported into a coordinator, and the context pack is
composed that a job on the same parent would get. Its axis and direction are *resolved* if an earlier one with both has
a verdict other than `unresolved`, and *shown* if the pack describes that one. A proposal is *avoidable* if the newest
one shown says that the direction gains nothing. The session's authors had no pack, so this says what a pack could have
told them, not what agents do with it. Intervals have bounds of 95 % on each side.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.app import create_app
from coordinator.autoresearch.reading import ImportOptions
from coordinator.autoresearch.service import import_session
from coordinator.db.database import Database
from coordinator.lineage.branches import list_branch_rows
from coordinator.models import CommitPosterior, Experiment, ImportedLine, Project, Run
from coordinator.projects.lookup import list_projects
from coordinator.selection.context_pack import PackRequest, compose_pack
from coordinator.settings import CoordinatorSettings
from shared.experiments import AxisDirection, Verdict
from shared.topics import name_topic
from tests.bench.report import append_table, format_table
from tests.bench.search_report import bound_share
from tests.support.in_process import open_client
from tests.support.sessions import BRANCH, DATA, HARDWARE, replay

RESOLVED = (Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE)
AGAINST = (Verdict.NO_CHANGE, Verdict.WORSE)
NO_TOPIC = name_topic("other")
HEADINGS = (
    "session", "experiments", "with an axis", "tried before", "resolved before", "shown by the pack", "avoidable",
    "avoidable, % of all", "of those no gain indeed", "pack's lines", "about the proposal's axis, %",
)  # fmt: skip


class Tried(NamedTuple):
    """An experiment as the evidence has it. Without a verdict it crashed."""

    id: int
    topic: str
    direction: AxisDirection
    verdict: Verdict | None

    def concerns(self, other: "Tried") -> bool:
        return (self.topic, self.direction) == (other.topic, other.direction)


@dataclass
class Told:
    """The state before a proposal: all earlier experiments, and those that the pack describes."""

    proposal: Tried
    known: Sequence[Tried]
    shown: Sequence[Tried]

    @property
    def has_axis(self) -> bool:
        return self.proposal.topic != NO_TOPIC

    @property
    def was_tried(self) -> bool:
        return self.has_axis and any(one.concerns(self.proposal) for one in self.known)

    @property
    def was_resolved(self) -> bool:
        return bool(self._find_resolved(self.known))

    @property
    def was_shown(self) -> bool:
        return bool(self._find_resolved(self.shown))

    @property
    def is_avoidable(self) -> bool:
        found = self._find_resolved(self.shown)
        return bool(found) and max(found).verdict in AGAINST

    def _find_resolved(self, some: Sequence[Tried]) -> list[Tried]:
        return [one for one in some if self.has_axis and one.verdict in RESOLVED and one.concerns(self.proposal)]


def replay_session(results: Path) -> Iterator[Told]:
    """The state before each experiment of a session."""
    with TemporaryDirectory() as name:
        session = replay(Path(name) / "repository", results)
        lines = session.results.read_bytes().splitlines(keepends=True)
        options = ImportOptions(session.folder, BRANCH, session.results, HARDWARE, name="replayed")
        with _open_database(Path(name) / "whole.db") as whole:
            _import(whole, options)
            with whole.read() as read:
                lines_of = {sha: line for line, sha in read.execute(_COMMITS)}
                experiments = {one.commit_sha: one for one in read.scalars(select(Experiment))}
                tried = {one.id: one for one in _list_tried(read)}
        for sha, line in sorted(lines_of.items(), key=lambda item: item[1]):
            if sha in experiments:
                session.results.write_bytes(b"".join(lines[: line - 1]))
                # Opened anew each time, because a coordinator looks for new findings only every few seconds.
                with _open_database(Path(name) / "growing.db") as growing:
                    hardware_class = _import(growing, options)
                    with growing.read() as read:
                        base = dict(read.execute(_COMMITS).all())
                        parent = base[lines_of[experiments[sha].parent_sha]]
                        known = list(_list_tried(read))
                        shown = _list_shown(read, parent, hardware_class)
                yield Told(tried[experiments[sha].id], known, [one for one in known if one.id in shown])


_COMMITS = (
    select(ImportedLine.line, Run.commit_sha)
    .join(Run, Run.id == ImportedLine.run_id)
    .order_by(ImportedLine.line.desc())  # of several measurements of a commit the first one stays in a dict by commit
)


@contextmanager
def _open_database(file: Path) -> Iterator[Database]:
    """A coordinator's database of its own."""
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{file}", epoch_check_seconds=1e6))
    with open_client(app):
        yield app.state.database


def _import(database: Database, options: ImportOptions) -> str:
    """Import what is new; returns the hardware class."""
    with database.read() as read, database.write() as write:
        import_session(read, write, options)
        return write.scalars(select(Run.hardware_class).distinct()).one()


def _list_tried(session: Session) -> Iterator[Tried]:
    query = select(Experiment, CommitPosterior.verdict).outerjoin(
        CommitPosterior, CommitPosterior.commit_sha == Experiment.commit_sha
    )
    for experiment, verdict in session.execute(query):
        direction = AxisDirection(experiment.direction)
        yield Tried(experiment.id, experiment.topic, direction, Verdict(verdict) if verdict else None)


def _list_shown(session: Session, base_sha: str, hardware_class: str) -> set[int]:
    """The experiments that the pack of a job on a commit describes."""
    project: Project = list_projects(session)[0]
    branch = list_branch_rows(session, project.id)[0]
    request = PackRequest(project, base_sha, hardware_class, f" {branch.name} {branch.theme}", [])
    return {int(number) for number in re.findall(r"(?m)^> - #(\d+) ", compose_pack(session, request).text)}


def describe(name: str, told: Sequence[Told]) -> tuple[str, ...]:
    """A row of the table."""
    avoidable = [one for one in told if one.is_avoidable]
    right = sum(one.proposal.verdict is not Verdict.IMPROVED for one in avoidable)
    shown = [(one, line) for one in told if one.has_axis for line in one.shown]
    about = sum(line.topic == one.proposal.topic for one, line in shown)
    return (
        name, str(len(told)), str(sum(one.has_axis for one in told)), str(sum(one.was_tried for one in told)),
        str(sum(one.was_resolved for one in told)), str(sum(one.was_shown for one in told)), str(len(avoidable)),
        show_share(len(avoidable), len(told)), f"{right} of {len(avoidable)}", str(len(shown)),
        show_share(about, len(shown)),
    )  # fmt: skip


def show_share(count: int, total: int) -> str:
    """A share in per cent with its bounds, each of them one-sided."""
    if not total:
        return "–"
    low, high = 1 - bound_share(total - count, total), bound_share(count, total)
    return f"{100 * count / total:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", type=Path, nargs="*", default=sorted(DATA.glob("*.tsv")))
    parser.add_argument("--append", type=Path, help="add the table to this Markdown file")
    given = parser.parse_args()
    told = {file.stem: list(replay_session(file)) for file in given.sessions}
    rows = [describe(name, some) for name, some in told.items()]
    rows.append(describe("all", [one for some in told.values() for one in some]))
    print(format_table(HEADINGS, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_findings_value", HEADINGS, rows)


if __name__ == "__main__":
    main()
