"""Does a context pack tell what a good colleague would? Ten packs of recorded sessions, judged by a list.

python -m tests.bench.bench_packs                       this checkout alone
python -m tests.bench.bench_packs --against ../other    and another one's packs on the same sessions, as "before"

Two sessions are imported, one with a long line of descent and one with many losses. Packs are composed for five parents
of each, spaced evenly over the longest line, and a second one of each for a job that drafts. Each thing of LIST is
looked for in the text with what the database says: a pack has it, lacks it, or the session has nothing of the kind.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.app import create_app
from coordinator.autoresearch.reading import ImportOptions
from coordinator.autoresearch.service import import_session
from coordinator.evidence import posteriors
from coordinator.lineage.branches import list_branch_rows
from coordinator.models import CommitPosterior, Experiment, Finding, Project
from coordinator.projects import service as projects
from coordinator.selection.context_pack import PackRequest, compose_pack
from coordinator.settings import CoordinatorSettings
from shared.experiments import JobKind
from tests.support.in_process import open_client
from tests.support.sessions import BRANCH, DATA, HARDWARE, replay

PARENTS = 5
"""Packs of each session."""

SESSIONS = (DATA / "session-a.tsv", DATA.parent / "tried" / "session-c.tsv")

MANY = 3
"""Negatives that a pack should have."""

Texts = dict[str, str]
"""A pack for a job to improve, and one for a job that drafts, of the same parent."""


class Effect(NamedTuple):
    """An experiment as the database has it."""

    id: int
    title: str
    mean: float | None
    runs: int
    verdict: str | None


class Facts(NamedTuple):
    """All there is to tell of a parent. `ancestors` begins with the parent's own experiment."""

    ancestors: list[Effect]
    others: list[Effect]
    hardware_class: str
    metric: str
    noise_sd: float
    min_effect: float
    sign: float


class Case(NamedTuple):
    """A pack to judge. `texts` has the kinds `improve` and `draft`."""

    facts: Facts
    texts: Texts

    @property
    def text(self) -> str:
        return self.texts["improve"]

    @property
    def lines(self) -> list[str]:
        return re.findall(r"(?m)^> - (.*)$", self.text)

    def find(self, number: int) -> str | None:
        """The line that is about an experiment."""
        return next((line for line in self.lines if line.startswith(f"#{number} ")), None)

    @property
    def line_of_descent(self) -> list[int]:
        """The experiments that the pack names as steps to the parent."""
        part = self.text.partition("## The steps that led to this parent")[2].partition("\n## ")[0]
        return [int(number) for number in re.findall(r"(?m)^> - #(\d+) ", part)]

    @property
    def worst(self) -> list[Effect]:
        """Measured experiments that did not help, the largest loss first."""
        found = [one for one in self.facts.others if one.mean is not None and one.verdict in ("worse", "no_change")]
        return sorted(found, key=lambda one: -self.facts.sign * (one.mean or 0.0))


def has_ancestors(case: Case) -> bool | None:
    return {one.id for one in case.facts.ancestors} <= set(case.line_of_descent)


def has_largest_step(case: Case) -> bool | None:
    measured = [one for one in case.facts.ancestors if one.mean is not None]
    return max(measured, key=lambda one: abs(one.mean or 0.0)).id in case.line_of_descent if measured else None


def has_worst(case: Case) -> bool | None:
    return case.find(case.worst[0].id) is not None if case.worst else None


def has_worst_first(case: Case) -> bool | None:
    """Of the losses that the pack tells beside its siblings, the largest comes first."""
    part = case.text.partition("## Changes that did not help")[2].partition("\n## ")[0]
    told = [int(number) for number in re.findall(r"(?m)^> - #(\d+) ", part)]
    ranks = [one.id for one in case.worst if one.id in told]
    shown = [number for number in told if number in ranks]
    return shown == ranks if len(ranks) > 1 else None


def has_negatives(case: Case) -> bool | None:
    if len(case.worst) < MANY:
        return None
    return sum(case.find(one.id) is not None for one in case.worst) >= MANY


def marks_one_run(case: Case) -> bool | None:
    told = [(one, case.find(one.id)) for one in (*case.facts.ancestors, *case.facts.others) if one.mean is not None]
    lines = [line for one, line in told if line is not None and one.runs == 1]
    return all("one run" in line or "n = 1" in line for line in lines) if lines else None


def has_no_title_twice(case: Case) -> bool | None:
    titles = {one.title for one in (*case.facts.ancestors, *case.facts.others)}
    return all(case.text.count(title) <= 1 for title in titles if not is_part(title, titles))


def is_part(title: str, titles: set[str]) -> bool:
    return any(title in other for other in titles - {title})


def shows(pattern: str) -> Callable[[Case], bool]:
    return lambda case: re.search(pattern, case.text) is not None


LIST: Mapping[str, Callable[[Case], bool | None]] = {
    "every ancestor in a line": has_ancestors,
    "the largest step of the line": has_largest_step,
    "the metric, and which way is better": lambda case: case.facts.metric in case.text and "is better" in case.text,
    "the noise of one run": lambda case: f"{case.facts.noise_sd:.2g}" in case.text and "noise" in case.text,
    "min_effect": lambda case: f"{case.facts.min_effect:g}" in case.text and "min_effect" in case.text,
    "what rests on one run is marked": marks_one_run,
    "the largest loss": has_worst,
    "the worst failures first": has_worst_first,
    f"{MANY} negatives or more": has_negatives,
    "what nobody tried": shows(r"## Not tried yet\n\n> - "),
    "no title twice": has_no_title_twice,
    "the class's name once at most": lambda case: case.text.count(case.facts.hardware_class) <= 1,
    "another text for a draft": lambda case: case.texts["draft"] != case.text,
}


def judge(cases: Sequence[Case]) -> dict[str, tuple[int, int]]:
    """For each thing, how many packs have it, of those whose session has something of the kind."""
    answers = {name: [ask(case) for case in cases] for name, ask in LIST.items()}
    return {name: (sum(map(bool, said)), sum(one is not None for one in said)) for name, said in answers.items()}


def compose_session(results: Path) -> Iterator[tuple[Facts, Texts]]:
    """The packs of some parents of a session, and what there is to tell of them."""
    with TemporaryDirectory() as name:
        session = replay(Path(name) / "repository", results)
        settings = CoordinatorSettings(database_url=f"sqlite:///{name}/packs.db", epoch_check_seconds=1e6)
        app = create_app(settings)
        with open_client(app):
            database = app.state.database
            with database.read() as read, database.write() as write:
                options = ImportOptions(session.folder, BRANCH, session.results, HARDWARE, name="replayed")
                import_session(read, write, options)
                hardware_class = write.scalars(select(CommitPosterior.hardware_class).distinct()).one()
            with database.read() as read:
                line = find_longest_line(read)
                for place in range(PARENTS):
                    at = (len(line) - 1) * (PARENTS - 1 - place) // (PARENTS - 1)
                    texts = {kind: compose(read, line[at], hardware_class, kind) for kind in ("improve", "draft")}
                    yield gather(read, line[at:], hardware_class), texts


def find_longest_line(session: Session) -> list[str]:
    """The commits of the longest line of descent, the newest first, without the root."""
    parents = {one.commit_sha: one.parent_sha for one in session.scalars(select(Experiment))}

    def trace(sha: str) -> list[str]:
        return [sha, *trace(parents[sha])] if sha in parents else []

    return max((trace(sha) for sha in parents), key=len)


def compose(session: Session, base_sha: str, hardware_class: str, kind: str) -> str:
    """A pack as the checkout's own code composes it, whatever its request takes."""
    project = session.scalars(select(Project)).one()
    branch = list_branch_rows(session, project.id)[0]
    given: dict[str, Any] = {
        "project": project, "project_id": project.id, "base_sha": base_sha, "hardware_class": hardware_class,
        "sign": projects.contract_of(project).objective.sign, "about": f" {branch.name} {branch.theme}", "running": [],
        "kind": JobKind(kind),
    }  # fmt: skip
    return compose_pack(
        session, PackRequest(**{name: given[name] for name in PackRequest._fields if name in given})
    ).text


def gather(session: Session, line: Sequence[str], hardware_class: str) -> Facts:
    project = session.scalars(select(Project)).one()
    contract = projects.contract_of(project)
    query = (
        select(Experiment, CommitPosterior)
        .join(Finding, Finding.experiment_id == Experiment.id)
        .outerjoin(CommitPosterior, CommitPosterior.commit_sha == Experiment.commit_sha)
    )
    effects = {
        one.commit_sha: Effect(
            one.id,
            one.title,
            known.effect_mean if known else None,
            known.runs if known else 0,
            known.verdict if known else None,
        )
        for one, known in session.execute(query)
    }
    return Facts(
        [effects[sha] for sha in line], [one for sha, one in effects.items() if sha not in line], hardware_class,
        contract.objective.metric, posteriors.find_model(session, contract, project.id, hardware_class).noise_sd,
        contract.objective.min_effect, contract.objective.sign,
    )  # fmt: skip


def compose_elsewhere(checkout: Path, sessions: Sequence[Path]) -> list[Texts]:
    """The texts that another checkout's code composes of the same parents, in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--texts", *(str(file.absolute()) for file in sessions)]
    environment = os.environ | {"PYTHONPATH": str(checkout.absolute())}
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True)
    texts: list[Texts] = json.loads(done.stdout)
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", type=Path, nargs="*", default=SESSIONS)
    parser.add_argument("--against", type=Path, help="another checkout, whose packs are judged as well")
    parser.add_argument("--append", type=Path, help="add the table to this Markdown file")
    parser.add_argument("--show", type=Path, help="write the packs into this folder")
    parser.add_argument("--texts", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    composed = [pack for file in given.sessions for pack in compose_session(file)]
    if given.texts:
        print(json.dumps([texts for _, texts in composed]))
        return
    from tests.bench.report import append_table, format_table  # noqa: PLC0415 - not where another checkout composes

    for number, (_, texts) in enumerate(composed if given.show else ()):
        for kind, text in texts.items():
            (given.show / f"pack-{number}-{kind}.md").write_text(text)
    columns = {"this checkout": judge([Case(facts, texts) for facts, texts in composed])}
    if given.against:
        before = compose_elsewhere(given.against, given.sessions)
        pairs = zip(composed, before, strict=True)
        columns = {
            "before": judge([Case(facts, texts) for (facts, _), texts in pairs]),
            "now": columns["this checkout"],
        }
    headings = ("what a person would want to know", *columns)
    rows = [(name, *(f"{counts[name][0]} of {counts[name][1]}" for counts in columns.values())) for name in LIST]
    totals = [[sum(pair[at] for pair in counts.values()) for at in (0, 1)] for counts in columns.values()]
    rows.append(("all", *(f"{has} of {of}" for has, of in totals)))
    print(format_table(headings, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_packs", headings, rows)


if __name__ == "__main__":
    main()
