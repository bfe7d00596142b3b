"""A swarm that left many findings, made quickly: rows in bulk, words from real descriptions and from our own texts."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha1
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.findings import service as findings
from coordinator.findings.semantic_index import SUBJECT, describe
from coordinator.lineage.branches import create_branch, list_branches
from coordinator.models import Base, CommitPosterior, Embedding, Experiment, Finding, Project, Run
from coordinator.novelty.embeddings import WordLlamaEmbedder, average
from coordinator.novelty.vector_index import pack
from coordinator.projects.service import create_project
from shared.experiments import AxisDirection, JobKind, Standing, Verdict
from shared.findings import FailureClass
from shared.runs import RunOutcome
from shared.topics import name_topic
from tests.coordinator.findings.relevance import read_descriptions
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History

ROWS_AT_ONCE = 2_000
FIRST_ID = 1_000
REAL_VECTORS, NOISE = 500, 0.03
KNOBS = (
    "WEIGHT_DECAY", "MATRIX_LR", "EMBEDDING_LR", "SCALAR_LR", "WARMDOWN_RATIO", "WARMUP_STEPS", "BATCH_SIZE", "DEPTH",
    "WIDTH", "HEADS", "MLP_RATIO", "ROPE_BASE", "LOGIT_CAP", "ADAM_BETA2", "ADAM_EPS", "WINDOW", "DROPOUT", "GRAD_CLIP",
)  # fmt: skip
PARTS = ("", "_EMBEDDING", "_HEAD", "_ATTENTION", "_MLP", "_NORM", "_FIRST_LAYER", "_LAST_LAYER", "_VALUE", "_QUERY")
FAILURES = (FailureClass.CRASHED, FailureClass.DIVERGED, FailureClass.OUT_OF_MEMORY)
KINDS = (JobKind.IMPROVE, JobKind.TUNE, JobKind.ADOPT)
OTHER_WORKERS = (("w2", "ada"), ("gpu-cellar", "grace"))
BRANCHES = ("optimizers", "attention")
Row = dict[str, Any]


def read_sentences() -> list[str]:
    """Sentences of our own documents: what words of findings are drawn from, besides real descriptions."""
    texts = [path.read_text() for path in sorted(Path("docs").glob("*.md"))]
    lines = " ".join(texts).replace("\n", " ").split(". ")
    return [line.strip() for line in lines if 40 < len(line) < 300]


class FindingsStore:
    """A database with a project in it, to be filled with findings."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self._random = Random(5)
        with database.write() as session:
            project = create_project(session, write_seed(folder / "seed"))[0]
            self.project_id, self.root_sha = project.id, project.root_sha
            self._template, self._workers, self._branches = _write_template(session, project)
        self._sentences = read_sentences()
        self._descriptions = list(read_descriptions().values())

    def fill(self, count: int, *, with_meanings: bool = True) -> None:
        """Add `count` findings with experiments, runs and posteriors; then index words and meanings if wanted."""
        made = self._make(count)
        while some := list(islice(made, ROWS_AT_ONCE)):
            with self.database.write() as session:
                for table in some[0]:
                    session.execute(insert(Base.metadata.tables[table]), [rows[table] for rows in some])
        if with_meanings:
            index_findings(self.database, self.project_id)

    def _make(self, count: int) -> Iterator[dict[str, Row]]:
        draw = self._random
        for number in range(FIRST_ID, FIRST_ID + count):
            axis = draw.choice(KNOBS) + draw.choice(PARTS)
            value = f"{draw.lognormvariate(-2, 2):.2g}"
            about = draw.choice(self._descriptions)
            effect = draw.gauss(0.003, 0.01)
            verdict = Verdict.NO_CHANGE if abs(effect) < 0.004 else Verdict.WORSE if effect > 0 else Verdict.IMPROVED
            failure = draw.choice(FAILURES) if draw.random() < 0.05 else None
            worker = {"worker_id": draw.choice(self._workers)}
            moment = self._template["findings"]["created_at"] + timedelta(seconds=number)
            kind = draw.choices(KINDS, (80, 15, 5))[0]
            standing = Standing.VERIFIED if draw.random() < 0.0005 else Standing.PROVISIONAL
            sha = sha1(str(number).encode(), usedforsecurity=False).hexdigest()
            changes: dict[str, Row] = {
                "commits": {"sha": sha, "tree_sha": sha, "has_code": draw.random() > 0.01},
                "experiments": {
                    "id": number, "commit_sha": sha, "title": f"{axis} to {value}: {about}"[:200], "axis": axis,
                    "topic": name_topic(axis), "value": value, "hypothesis": self._text(1),
                    "direction": draw.choice(list(AxisDirection)), "kind": kind, "done_at": moment,
                    "branch_id": draw.choice(self._branches), **worker,
                },
                "runs": {
                    "id": number, "uuid": UUID(int=number), "commit_sha": sha, "experiment_id": number, "kind": kind,
                    "finished_at": moment, "metric": None if failure else 3.3 + effect,
                    "outcome": RunOutcome.CRASHED if failure else RunOutcome.OK, "steps": 100 + number % 4_999,
                    "tokens": 1_000 * (number % 9_973), "peak_memory_mib": 900 + number % 997, **worker,
                },
                "commit_posteriors": {
                    "commit_sha": sha, "effect_mean": effect, "verdict": verdict, "metric_mean": 3.3 + effect,
                    "standing": standing,
                },
                "findings": {
                    "id": number, "experiment_id": number, "claim": self._text(1)[:200], "mechanism": self._text(3),
                    "caveats": self._text(1), "follow_ups": self._text(1),
                    "created_at": moment, "failure": failure,
                },
            }  # fmt: skip
            yield {table: self._template[table] | changed for table, changed in changes.items()}

    def _text(self, sentences: int) -> str:
        return ". ".join(self._random.choices(self._sentences, k=sentences))


def index_findings(database: Database, project_id: int) -> None:
    """Index the words of all findings, and give each a vector: that of a real one, moved a little, to be quick."""
    with database.write() as session:
        findings.index_missing(session)
    embedder, noise = WordLlamaEmbedder(), np.random.default_rng(3)
    query = select(Finding, Experiment).join(Experiment, Experiment.id == Finding.experiment_id)
    with database.read() as session:
        some = session.execute(query.order_by(Finding.id).limit(REAL_VECTORS))
        real = np.stack([average(embedder.embed(describe(row[0], row[1]))) for row in some])
        ids = list(session.scalars(select(Finding.id).order_by(Finding.id)))
    for start in range(0, len(ids), ROWS_AT_ONCE):
        part = ids[start : start + ROWS_AT_ONCE]
        vectors = real[noise.integers(len(real), size=len(part))]
        vectors = vectors + noise.normal(0, NOISE, vectors.shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = [
            {"project_id": project_id, "subject": SUBJECT, "key": str(finding_id), "model": embedder.name,
             "vector": pack(vector.astype(np.float32))}
            for finding_id, vector in zip(part, vectors, strict=True)
        ]  # fmt: skip
        with database.write() as session:
            session.execute(insert(Embedding), rows)


def _write_template(session: Session, project: Project) -> tuple[dict[str, Row], list[int], list[int]]:
    """One experiment, written through the services: its rows, to be copied; and the ids of workers and branches."""
    history = History(session, project)
    worker = history.add_worker()
    workers = [worker.id, *(history.add_worker(name, owner).id for name, owner in OTHER_WORKERS)]
    for name in BRANCHES:
        create_branch(session, project.id, name, name, project.root_sha, "bench", "For the benchmark.")
    history.measure(worker, project.root_sha, 3.3)
    experiment = history.add_experiment(worker, project.root_sha, 3.25, make_proposal())
    commits = Base.metadata.tables["commits"]
    originals: dict[str, Any] = {
        "experiments": experiment,
        "runs": session.scalars(select(Run).where(Run.experiment_id == experiment.id)).one(),
        "commit_posteriors": session.get_one(CommitPosterior, (experiment.commit_sha, worker.hardware_class)),
        "findings": session.scalars(select(Finding).where(Finding.experiment_id == experiment.id)).one(),
    }
    rows = {
        table: {column.name: getattr(row, column.name) for column in Base.metadata.tables[table].columns}
        for table, row in originals.items()
    }
    rows["runs"] |= {"curve": [], "log_tail": ""}
    stored = session.execute(select(commits).where(commits.c.sha == experiment.commit_sha)).mappings().one()
    branches = [branch.id for branch in list_branches(session, project.id)]
    return {"commits": dict(stored)} | rows, workers, branches
