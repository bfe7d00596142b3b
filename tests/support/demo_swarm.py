"""A swarm with something on every page: a history with a record, people, branches, papers, and what waits for staff."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random

import httpx
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from coordinator.accounts.service import create_invitation, find_or_add_volunteer
from coordinator.db.database import Database
from coordinator.models import Experiment, Finding, LeaderChange, Lease, Project, Run, StoredDigest, Worker, table_of
from coordinator.projects.service import create_project
from coordinator.records import digest
from coordinator.records.progress import follow_runs
from coordinator.workers.lookup import WorkerRow
from shared.experiments import AxisDirection, JobKind, Proposal
from shared.findings import FindingDraft
from shared.protocol import now
from shared.runs import DeviceKind, Hardware
from shared.workers import Role
from tests.support.accounts import Person, make_person
from tests.support.messages import make_proposal
from tests.support.page_table import Things
from tests.support.swarm_data import History, crash, end_epochs

SEED = Path(__file__).parents[2] / "seed" / "gpt-cpu"
EPYC = Hardware(kind=DeviceKind.CPU, model="AMD EPYC 9354", memory_mib=8192, cores=2, isa="x86_64-avx512",
                torch_version="2.11")  # fmt: skip
PEOPLE = (("ada", "tower"), ("grace", "gpu-cellar"), ("emmy", "lab-3"), ("noether", "w1"), ("linus", "old-laptop"))
ANCHORS = ("grace", "emmy")
BOSS, LIAR, NEWCOMER = "rosalind", "mallory", "newcomer"
FOLLOWED_AT_ONCE = 10
"""Experiments after which is noted who leads."""

IDEAS: dict[str, tuple[str, str, str]] = {
    "LEARNING_RATE": ("A larger step learns more in so short a time.", "The schedule ends before the loss flattens.",
                      "The noise of one run hides half of it."),
    "DEPTH": ("Fewer layers take more steps in the budget.", "Steps count for more than capacity here.",
              "On a faster machine depth may win."),
    "WIDTH": ("A wider model wastes fewer cycles on overhead.", "The matrices fit the cache until 192.",
              "Two cores only."),
    "WARMUP_SHARE": ("A shorter warm-up leaves more steps at the full rate.", "Adam's second moment settles early.",
                     "Not tried with a larger rate."),
    "WEIGHT_DECAY": ("Less decay, since no weight is seen often.", "There is no time to overfit.",
                     "The holdout is small."),
    "ROTARY_BASE": ("Short contexts need fewer slow rotations.", "Positions beyond 128 never occur.",
                    "It may hurt longer sequences."),
    "GRADIENT_CLIP": ("Rare spikes cost more than clipping does.", "Three spikes a run, all in the first tenth.",
                      "Clipping hides a rate that is too large."),
}  # fmt: skip
CONSTANTS = {"LEARNING_RATE": 1.5e-3, "DEPTH": 3.0, "WIDTH": 128.0, "WARMUP_SHARE": 0.1, "WEIGHT_DECAY": 0.1,
             "ROTARY_BASE": 10_000.0, "GRADIENT_CLIP": 1.0}  # fmt: skip


class DemoSwarm:
    """The things that pages are about, and the people who look at them."""

    def __init__(self, database: Database, http: httpx.Client, experiments: int = 90) -> None:
        self.database, self._http = database, http
        with database.write() as session:
            project, _ = create_project(session, SEED)
            self.project, self._project_id = project.name, project.id
            past = _Past(project.root_sha)
            past.measure_root(History(session, project, hardware=EPYC))
        for start in range(0, experiments, FOLLOWED_AT_ONCE):
            with database.write() as session:
                history = History(session, session.get_one(Project, self._project_id), start, EPYC)
                past.add_experiments(history, min(FOLLOWED_AT_ONCE, experiments - start))
                if start + FOLLOWED_AT_ONCE >= experiments:
                    past.begin_jobs(history)
            follow_runs(database)
        self._add_people()
        end_epochs(database, always=True)
        with database.write() as session:
            _write_waiting(session, session.get_one(Project, self._project_id))
            _spread_over_weeks(session, experiments)
        follow_runs(database)
        digest.make_due(database)
        self.things = self._find_things()

    def _add_people(self) -> None:
        """Those who moderate, what they did, branches, notes and reports: over the API, as people do it."""
        make: Callable[..., Person] = lambda *given, **more: make_person(self.database, self._http, *given, **more)  # noqa: E731
        boss, grace, newcomer = make(BOSS, Role.MAINTAINER), make("grace", Role.MODERATOR), make(NEWCOMER)
        branches = f"/projects/{self.project}/branches"
        for person, name, theme in (
            (boss, "short-warm-up", "What is gained by a shorter warm-up, and what by none at all?"),
            (boss, "wide-and-shallow", "Fewer, wider layers: more steps in the same budget."),
            (newcomer, "no-attention", "Convolutions in place of attention, as 128 tokens are few."),
        ):
            _check(person.post(branches, {"name": name, "theme": theme}))
        _check(boss.post(f"{branches}/wide-and-shallow/pause", {"reason": "the cache is too small, see #12"}))
        _check(boss.post("/accounts/linus/pause", {"reason": "it reports a full disk", "worker": "old-laptop"}))
        _check(
            boss.post("/accounts/ada/message", {"worker": "tower", "text": "Please update: 0.1.1 mends the outbox."})
        )
        settings = {"reason": "the hall is cooled", "notice": "Maintenance on Sunday from 8 to 10 UTC."}
        _check(boss.post(f"/projects/{self.project}/settings", settings))
        _check(boss.post(f"/accounts/{NEWCOMER}/suspension", {"reason": "advertises in branch names"}))
        _check(boss.post("/accounts/noether/quarantine", {"reason": "clock is wrong"}))
        _check(boss.post("/accounts/noether/release", {"reason": "clock is set"}))
        with self.database.read() as session:
            first = session.scalar(select(func.min(Finding.id))) or 0
        _check(grace.post(f"/findings/{first}/notes", {"text": "I see the **same** on my machine, over four runs."}))
        _check(grace.post(f"/findings/{first}/reports", {"text": "The table in it is another paper's."}))

    def _find_things(self) -> Things:
        with self.database.read() as session:
            better = session.scalars(select(Experiment.id).where(Experiment.axis == "LEARNING_RATE")).all()
            is_crashed = Run.outcome == "crashed", Run.experiment_id.is_not(None)
            crashed = session.scalars(select(Run.experiment_id).where(*is_crashed)).first()
            of_root = session.scalar(select(func.min(Run.id)).where(Run.experiment_id.is_(None)))
            shown = session.scalars(select(Finding.id).where(Finding.experiment_id == better[0])).one()
            topic = session.scalars(select(Experiment.topic).where(Experiment.id == better[0])).one()
            worker = session.scalars(select(Worker.id).where(Worker.name == "tower")).one()
            week = session.scalars(
                select(StoredDigest.week).order_by(StoredDigest.runs.desc(), StoredDigest.week)
            ).first()
        desk = make_person(self.database, self._http, BOSS, Role.MAINTAINER).get("/queue").json()["items"]
        return Things(
            project=self.project, experiment_id=better[0], other_experiment_id=better[1],
            crashed_experiment_id=crashed or 0, finding_id=shown,
            run_id=of_root or 0, worker_id=worker, volunteer="ada", sanctioned=NEWCOMER, topic=topic,
            branch="short-warm-up", week=week or "", queue_item=next(one["name"] for one in desk),
        )  # fmt: skip


def _check(answer: httpx.Response) -> None:
    assert answer.is_success, answer.text


class _Past:
    """A root that all measured; experiments along seven axes, of which about each tenth leads and is verified."""

    def __init__(self, root_sha: str) -> None:
        self._draw, self._leader, self._level, self._gain = Random(4), root_sha, 2.53, 0.06
        self._settings, self._tried, self._number = dict(CONSTANTS), set[tuple[str, str, float]](), 0

    def measure_root(self, history: History) -> None:
        for worker in _workers(history):
            for _ in range(3):
                history.measure(worker, self._leader, self._level + self._draw.gauss(0, 0.004))

    def add_experiments(self, history: History, count: int) -> None:
        draw, workers = self._draw, _workers(history)
        for _ in range(count):
            axis, value = self._choose()
            leads, has_crashed = draw.random() < 0.12, draw.random() < 0.08
            effect = -self._gain if leads else draw.gauss(0.012, 0.02)
            has_crashed = has_crashed and not leads
            changes = crash() | {"log_tail": "step 10 loss 5.1\nRuntimeError: shapes differ\n"} if has_crashed else {}
            worker = workers[self._number % len(workers)]
            experiment = history.add_experiment(
                worker, self._leader, None if has_crashed else self._level + effect,
                _propose(axis, self._settings[axis], value), _write_paper(axis, value, effect, has_crashed),
                _set_constant(axis, value), **changes,
            )  # fmt: skip
            self._number += 1
            if leads:
                self._leader, self._settings[axis] = experiment.commit_sha, value
                self._level, self._gain = self._level + effect, self._gain * 0.88
                for checker in workers:
                    if checker is not worker:
                        history.measure(checker, self._leader, self._level + draw.gauss(0, 0.004))

    def _choose(self) -> tuple[str, float]:
        """An axis and a value near the leader's that was not tried on it."""
        while True:
            axis = self._draw.choice(list(IDEAS))
            value = float(f"{self._settings[axis] * self._draw.uniform(0.6, 1.6):.2g}")
            value = float(max(1, round(value))) if axis in ("DEPTH", "WIDTH") else value
            tried = self._leader, axis, value
            if value != self._settings[axis] and tried not in self._tried:
                self._tried.add(tried)
                return axis, value

    def begin_jobs(self, history: History) -> None:
        workers = _workers(history)
        history.add_running_lease(workers[0], self._leader, "Weight decay 0.1 → 0.05, with a longer warm-up", 0.62)
        history.add_running_lease(workers[2], self._leader, "Depth 3 → 4", 0.2)
        history.add_lease(workers[1], self._leader, JobKind.REPLICATE)


def _workers(history: History) -> list[WorkerRow]:
    return [history.add_worker(box, name, is_anchor=name in ANCHORS) for name, box in PEOPLE]


def _propose(axis: str, before: float, value: float) -> Proposal:
    words = {
        "axis": axis, "value": f"{value:g}", "hypothesis": IDEAS[axis][0], "predicted_effect": -0.02,
        "direction": AxisDirection.UP if value > before else AxisDirection.DOWN, "settings": {axis: value},
    }  # fmt: skip
    return make_proposal(f"{axis} {before:g} → {value:g}").model_copy(update=words)


def _write_paper(axis: str, value: float, effect: float, has_crashed: bool) -> FindingDraft:
    claim = f"{axis} of {value:g} {'helps' if effect < -0.004 else 'does not help'} in 40 CPU seconds."
    if has_crashed:
        claim = f"{axis} of {value:g} does not run: the shapes of two matrices differ."
    return FindingDraft(claim=claim, mechanism=IDEAS[axis][1], caveats=IDEAS[axis][2], agent="search",
                        follow_ups=f"Does it hold at twice the budget with {axis} unchanged?",
                        tags=["schedule"])  # fmt: skip


def _set_constant(axis: str, value: float) -> Callable[[str], str]:
    def edit(text: str) -> str:
        changed = re.sub(rf"(?m)^{axis} = [^ \n]+", f"{axis} = {value:g}", text)
        return changed if changed != text else f"{text}# {axis} stays {value:g}\n"

    return edit


def _write_waiting(session: Session, project: Project) -> None:
    """Work that waits for staff: a held result, contradictions, a worker that fails, a newcomer; and an invitation."""
    history = History(session, project, seed=9, hardware=EPYC)
    root, liar = project.root_sha, history.add_worker("m1", LIAR)
    for number, metric in enumerate((0.9, 2.3, 2.31)):
        brag = FindingDraft(claim=f"A miracle of the learning rate, number {number + 1}.", agent="search")
        proposal = make_proposal(f"A miracle {number + 1}").model_copy(update={"axis": "LUCK", "value": "all of it"})
        made = history.add_experiment(liar, root, metric, proposal, brag)
        for name, box in PEOPLE[:3] if number else ():
            checker = history.add_worker(box, name, is_anchor=name in ANCHORS)
            history.measure(checker, made.commit_sha, 2.53 + 0.002 * number)
    broken = history.add_worker("old-laptop", "linus")
    for _ in range(4):
        history.add_experiment(broken, root, None, make_proposal("Deeper still"), **crash())
    waiting = find_or_add_volunteer(session, "waiting-newcomer")
    waiting.is_pending = True
    create_invitation(session, BOSS, 5, 14)


def _spread_over_weeks(session: Session, experiments: int) -> None:
    """Moves what happened into the last three weeks, so that digests and the time of progress have something."""
    step = timedelta(days=21) / max(1, experiments * 2)
    newest = session.scalar(select(func.max(Run.id))) or 0
    for run in session.scalars(select(Run).order_by(Run.id)):
        moment = now() - step * (newest - run.id)
        run.created_at, run.finished_at = moment, moment
        ends = {"issued_at": moment - step, "heartbeat_at": moment, "ended_at": moment}
        session.execute(update(table_of(Lease)).where(Lease.id == run.lease_id).values(**ends))
        if run.experiment_id:
            for model in (Experiment, Finding):
                column = Experiment.id if model is Experiment else Finding.experiment_id
                done = {"created_at": moment} | ({"done_at": moment} if model is Experiment else {})
                is_its = column == run.experiment_id, model.created_at > moment
                session.execute(update(table_of(model)).where(*is_its).values(**done))
    for change in session.scalars(select(LeaderChange)):
        made = session.scalars(select(Experiment.created_at).where(Experiment.commit_sha == change.commit_sha)).first()
        change.changed_at = (made or now() - timedelta(days=21)) + timedelta(minutes=20)
    session.execute(update(table_of(Project)).values(created_at=now() - timedelta(days=22)))
