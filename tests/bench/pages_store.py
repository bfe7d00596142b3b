"""A large swarm, made quickly for pages: rows in bulk, copied from one real experiment and varied.

Experiments stand in one long line of descent, of which one in two hundred is the next step; each has two runs. Three
hardware classes share them (0.1 % are in the rarest), 180 topics, 400 volunteers with three workers each, of which 960
hold a job. The first thousand are of few people, and most are of four axes, with a step in each twenty, as in a young
swarm: what pages are about has as much to show at either size.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha1
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.experiments.text_index import IndexedText, text_index_of
from coordinator.models import (
    Base,
    Branch,
    Calibration,
    Commit,
    CommitPosterior,
    EvidenceEpoch,
    Experiment,
    Finding,
    Lease,
    Project,
    Run,
    Volunteer,
    Worker,
)
from coordinator.projects.service import create_project
from coordinator.records import digest, progress
from shared.experiments import JobKind, Standing, Verdict
from shared.findings import FailureClass
from shared.leases import LeaseState, Phase
from shared.protocol import now
from shared.runs import RunOutcome
from shared.topics import name_topic
from tests.bench.findings_store import KNOBS, PARTS, Row, read_sentences
from tests.support.databases import analyze
from tests.support.messages import make_proposal
from tests.support.page_table import Things
from tests.support.seeds import write_seed
from tests.support.swarm_data import History

VOLUNTEERS, WORKERS_EACH, LIVE_LEASES = 400, 3, 960
FIRST_ID, ROWS_AT_ONCE = 1_000, 5_000
EARLY, EARLY_WORKERS, EARLY_AXES, EARLY_EVERY = 1_000, 180, KNOBS[:4], 20
"""The first experiments, the workers that make them, what most of them change, and the number of them for each step and
each in the rarest class."""

STEP_EVERY, CRASHED_SHARE = 200, 0.08
EFFECT_MEAN, EFFECT_SD, STEP = 0.004, 0.008, 0.002
RARE, UNCOMMON = "gpu · rare · 8 GiB", "gpu · uncommon · 24 GiB"
AXES = [knob + part for part in PARTS for knob in KNOBS]
PHASES = (Phase.DRAFTING, Phase.READY, Phase.STARTING, *[Phase.TRAINING] * 12, Phase.SCORING)


def fill(database: Database, folder: Path, experiments: int) -> None:
    """Make a project with so many experiments in an empty database."""
    with database.write() as session:
        project = create_project(session, write_seed(folder / "seed"))[0]
        template = _write_template(session, project)
        project_id = project.id
        _add_people(session, template)
    made = _make(template, experiments)
    while some := list(islice(made, ROWS_AT_ONCE)):
        with database.write() as session:
            for model in (Commit, Lease, Experiment, Run, CommitPosterior, Finding):
                name = model.__tablename__
                if rows := [row for tables in some for row in tables.get(name, ())]:
                    session.execute(insert(Base.metadata.tables[name]), rows)
            for row in (row for tables in some for row in tables["findings"]):  # a few words: no page here searches
                text_index_of(session).put(session, IndexedText(row["id"], project_id, ["word"], []), is_new=True)
    with database.write() as session:
        session.execute(update(Project).where(Project.id == project_id).values(title="A swarm of many"))
        session.execute(insert(Base.metadata.tables["leases"]), list(_make_live_leases(template)))
        if database.backend == "postgresql":
            session.execute(text("SET LOCAL statement_timeout = 0"))
        progress.rebuild(session)
        of_branch = select(func.count()).where(Experiment.branch_id == Branch.id).scalar_subquery()
        session.execute(update(Branch).values(experiments=of_branch))
    digest.make_due(database)
    analyze(database)


def name_things(number: int, experiments: int) -> Things:
    """Things of a filled store, others for each number."""
    thing = FIRST_ID + number * 37 % experiments
    return Things(
        project="tiny", experiment_id=thing, other_experiment_id=FIRST_ID + (number * 37 + 1) % experiments,
        crashed_experiment_id=thing, finding_id=thing, run_id=1, worker_id=10 + number,
        volunteer=f"volunteer-{number:03}", sanctioned=f"volunteer-{number:03}",
        topic=name_topic(EARLY_AXES[number % len(EARLY_AXES)]), branch="baseline", week=digest.name_week(now()),
        queue_item="",
    )  # fmt: skip


def _write_template(session: Session, project: Project) -> dict[str, Row]:
    """Rows of one experiment, written through the services."""
    history = History(session, project)
    worker = history.add_worker()
    history.measure(worker, project.root_sha, 3.3)
    experiment = history.add_experiment(worker, project.root_sha, 3.298, make_proposal())
    session.flush()
    run = session.scalars(select(Run).where(Run.experiment_id == experiment.id)).one()
    originals: tuple[Any, ...] = (
        session.get_one(Commit, experiment.commit_sha), session.get_one(Lease, experiment.lease_id), experiment, run,
        session.get_one(CommitPosterior, (experiment.commit_sha, run.hardware_class)),
        session.scalars(select(Finding).where(Finding.experiment_id == experiment.id)).one(),
        session.get_one(Volunteer, 1), session.get_one(Worker, run.worker_id),
        session.scalars(select(EvidenceEpoch)).one(), session.scalars(select(Calibration)).one(),
    )  # fmt: skip
    rows = {
        row.__tablename__: {column.name: getattr(row, column.name) for column in row.__table__.columns}
        for row in originals
    }
    rows["runs"] |= {"log_tail": ""}
    return rows


def _add_people(session: Session, template: dict[str, Row]) -> None:
    people = [{"id": 10 + n, "name": f"volunteer-{n:03}"} for n in range(VOLUNTEERS)]
    workers = [
        {"id": 10 + n, "name": f"w{n % WORKERS_EACH}", "volunteer_id": 10 + n // WORKERS_EACH, "last_seen_at": now()}
        for n in range(VOLUNTEERS * WORKERS_EACH)
    ]
    rows: dict[str, list[Row]] = {
        "volunteers": people,
        "workers": workers,
        "evidence_epochs": [{"hardware_class": name} for name in (UNCOMMON, RARE)],
        "calibrations": [
            {"worker_id": row["id"], "volunteer_id": row["volunteer_id"], "hardware_class": name}
            for row in workers[:600]
            for name in (UNCOMMON, RARE)
        ],
    }
    for table, changes in rows.items():
        session.execute(insert(Base.metadata.tables[table]), [template[table] | changed for changed in changes])


def _choose_class(number: int, usual: str, *, is_early: bool) -> str:
    is_rare = number % (EARLY_EVERY if is_early else 1000) == (EARLY_EVERY if is_early else 1000) - 1
    return RARE if is_rare else UNCOMMON if number % 20 == 7 else usual


def _make(template: dict[str, Row], count: int) -> Iterator[dict[str, list[Row]]]:
    draw, sentences = Random(5), read_sentences()
    parent, depth, level = template["commits"]["parent_sha"], 0, 3.3
    began = template["runs"]["created_at"] - timedelta(seconds=30 * count)
    for number in range(FIRST_ID, FIRST_ID + count):
        is_early = number < FIRST_ID + EARLY
        each = EARLY_AXES if is_early else AXES
        axis = AXES[number % len(AXES)] if number < FIRST_ID + len(AXES) else draw.choice(each)
        hardware_class = _choose_class(number, template["runs"]["hardware_class"], is_early=is_early)
        is_step = number % (EARLY_EVERY if is_early else STEP_EVERY) == 0
        has_crashed = not is_step and draw.random() < CRASHED_SHARE
        effect = -STEP if is_step else draw.gauss(EFFECT_MEAN, EFFECT_SD)
        verdict = Verdict.NO_CHANGE if abs(effect) < 0.001 else Verdict.WORSE if effect > 0 else Verdict.IMPROVED
        sha = sha1(str(number).encode(), usedforsecurity=False).hexdigest()
        moment = began + timedelta(seconds=30 * (number - FIRST_ID))
        worker = 10 + draw.randrange(EARLY_WORKERS if is_early else VOLUNTEERS * WORKERS_EACH)
        lease_ids = [UUID(int=2 * number + n, version=4) for n in range(2)]
        run_ids = [UUID(int=2**64 + 2 * number + n, version=4) for n in range(2)]
        kinds = (JobKind.IMPROVE, JobKind.REPLICATE)
        changes: defaultdict[str, list[Row]] = defaultdict(list)
        changes["commits"].append({"sha": sha, "parent_sha": parent, "depth": depth + 1, "created_at": moment})
        changes["experiments"].append(
            {
                "id": number, "commit_sha": sha, "parent_sha": parent, "lease_id": lease_ids[0], "worker_id": worker,
                "title": f"{axis}: {draw.choice(sentences)}"[:110], "axis": axis, "topic": name_topic(axis),
                "value": f"{draw.lognormvariate(-2, 2):.2g}", "created_at": moment,
            }
        )  # fmt: skip
        for n, kind in enumerate(kinds[: 1 if has_crashed else 2]):
            metric = None if has_crashed else level + effect + draw.gauss(0, 0.003)
            outcome = RunOutcome.CRASHED if has_crashed else RunOutcome.OK
            changes["leases"].append(
                {"id": lease_ids[n], "kind": kind, "worker_id": worker, "base_sha": parent if n == 0 else sha,
                 "hardware_class": hardware_class, "result_key": run_ids[n], "issued_at": moment}
            )  # fmt: skip
            changes["runs"].append(
                {"id": 2 * number + n, "uuid": run_ids[n], "commit_sha": sha, "experiment_id": number, "kind": kind,
                 "lease_id": lease_ids[n], "worker_id": worker, "hardware_class": hardware_class, "outcome": outcome,
                 "metric": metric, "created_at": moment, "finished_at": moment}
            )  # fmt: skip
        if not has_crashed:
            mean = level + effect
            changes["commit_posteriors"].append(
                {"commit_sha": sha, "hardware_class": hardware_class, "metric_mean": mean, "measured_mean": mean,
                 "rank_score": mean, "effect_mean": effect, "verdict": verdict, "runs": 2,
                 "standing": Standing.VERIFIED if is_step else Standing.PROVISIONAL}
            )  # fmt: skip
        changes["findings"].append(
            {"id": number, "experiment_id": number, "hardware_class": hardware_class,
             "claim": draw.choice(sentences)[:200], "mechanism": draw.choice(sentences), "created_at": moment,
             "follow_ups": draw.choice(sentences) if number % 7 == 0 else "",
             "failure": FailureClass.CRASHED if has_crashed else None, "written_verdict": verdict}
        )  # fmt: skip
        yield {table: [template[table] | changed for changed in rows] for table, rows in changes.items()}
        if is_step:
            parent, depth, level = sha, depth + 1, level - STEP


def _make_live_leases(template: dict[str, Row]) -> Iterator[Row]:
    moment = now()
    for number in range(LIVE_LEASES):
        phase = PHASES[number % len(PHASES)]
        yield template["leases"] | {
            "id": UUID(int=2**70 + number, version=4), "worker_id": 10 + number, "state": LeaseState.RUNNING,
            "phase": phase, "result_key": None, "proposal": {"title": f"DEPTH to {number}"}, "share": 0.3,
            "issued_at": moment, "expires_at": moment + timedelta(days=1), "deadline_at": moment + timedelta(days=1),
            "base_sha": template["commits"]["sha"],
        }  # fmt: skip
