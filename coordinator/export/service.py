"""Exports as streams. Each batch is read in a transaction of its own, up to the row that was newest at the start."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from coordinator.autoresearch.lookup import find_last_run, find_session, list_lines
from coordinator.db.database import Database
from coordinator.db.engine import LabelledRow
from coordinator.evidence import confirmations
from coordinator.evidence.confirmation_queries import list_confirmed
from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.experiments.filters import Filters
from coordinator.experiments.listing import keep_fitting
from coordinator.export import queries
from coordinator.export.formats import write_rows
from coordinator.http.errors import NotFoundError, RequestInvalidError, SwarmError
from coordinator.models import Project, Worker
from coordinator.projects import service as projects
from shared.claims import WORDS, write_out
from shared.experiments import Posterior, Verdict
from shared.export import ROWS, ExportFormat, ExportTable
from shared.formatting import format_decimals
from shared.history import WORDS as ENTERED
from shared.history import write_canonical
from shared.protocol import Message
from shared.runs import RunOutcome

BATCH_ROWS = 1000
NONE = Filters()
SHORT_SHA = 7
ORIGINAL_COLUMNS = ("commit", "{metric}", "memory_gb", "status", "description")
"""Those of the original loop's results.tsv."""


class SnapshotError(SwarmError, status=409, code="snapshot-impossible", title="The snapshot cannot be made"):
    """Only `swarm-coordinator snapshot` answers with it. The folder is complete or absent."""


def export_table(
    database: Database, session: Session, project: Project, table: ExportTable, format_: ExportFormat,
    filters: Filters = NONE,
) -> Iterator[bytes]:  # fmt: skip
    """A project's table, streamed: what is of experiments that fit. `session` is only used before the first byte.

    Raises RequestInvalidError for filters of promotions, which are of no experiment.
    """
    if table == ExportTable.PROMOTIONS and not filters.is_plain:
        raise RequestInvalidError("Promotions have no filters: they are of no experiment.")
    through = queries.find_last_key(session, table)
    return write_rows(ROWS[table], _list_batches(database, project, table, filters, through), format_)


def _list_batches(
    database: Database, project: Project, table: ExportTable, filters: Filters, through: int
) -> Iterator[Sequence[Message]]:
    model, number = ROWS[table], "id" if table == ExportTable.EXPERIMENTS else "experiment_id"
    last: Mapping[str, Any] | None = None
    while True:
        with database.read() as session:
            rows = queries.list_rows(session, table, project.id, last, through, BATCH_ROWS)
            if table == ExportTable.EXPERIMENTS:
                rows = _add_published(session, project, rows)
            if table == ExportTable.FINDINGS:
                rows = [_write_finding(row) for row in rows]
            if not rows:
                return
            last = rows[-1]
            if not filters.is_plain:
                kept = keep_fitting(session, [row[number] for row in rows if row[number]], filters)
                rows = [row for row in rows if row[number] in kept]
        cells = [  # a table's cells hold no objects: JSON columns become text
            {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()}
            for row in rows
        ]
        if cells:
            yield [model.model_validate(row) for row in cells]


def _write_finding(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A finding with the numbers of its posterior in its words."""
    known = {name: row[f"posterior_{name}"] for name in Posterior.model_fields}
    posterior = None if known["metric_mean"] is None else Posterior.model_construct(**known)
    own = {name: value for name, value in row.items() if not name.startswith("posterior_")}
    stored = write_canonical({name: own[name] for name in ENTERED})
    return {
        **own,
        **{name: write_out(own[name], posterior, row["posterior_outcome"]) for name in WORDS},
        "stored": stored,
    }


def _add_published(session: Session, project: Project, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Experiments with the numbers of their confirmation runs, of which a record has some."""
    places = {(row["sha"], row["hardware_class"]) for row in rows}
    published = {
        place: confirmations.publish(session, project, place[1], place[0]).metric
        for place in list_confirmed(session, project.id) & places
    }
    found = [(row, published.get((row["sha"], row["hardware_class"]))) for row in rows]
    return [{**row, "published_mean": said.mean, "published_sd": said.sd} if said else row for row, said in found]


def choose_class(session: Session, project: Project, hardware_class: str | None) -> str:
    """The hardware class asked for, else that with the most runs. Raises NotFoundError where nothing was measured."""
    known = [row.name for row in list_hardware_classes(session, project.id)]
    chosen = hardware_class or next(iter(known), None)
    if chosen is None or chosen not in known:
        raise NotFoundError(f"{project.name} was not measured on {hardware_class or 'anything'} yet.")
    return chosen


def export_results(database: Database, session: Session, project: Project, hardware_class: str) -> Iterator[bytes]:
    """The rows of a hardware class, streamed; imported ones, whose class is one, come with that class alone."""
    imported = find_session(session, project.id)
    is_imported = imported is not None and session.get_one(Worker, imported.worker_id).hardware_class == hardware_class
    metric = projects.contract_of(project).objective.metric
    header = "\t".join(ORIGINAL_COLUMNS).format(metric=metric)
    if is_imported:
        lines, last_run = list_lines(session, project.id), find_last_run(session, project.id)
    else:
        lines, last_run = [f"{header}\n".encode()], 0
    return _write_results(database, project.id, hardware_class, lines, last_run, header)


def _write_results(
    database: Database, project_id: int, hardware_class: str, lines: Sequence[bytes], last_run: int, header: str
) -> Iterator[bytes]:
    """The lines as they were, and newer rows in their columns; below a header of their own where the log has others."""
    yield b"".join(lines)
    end = lines[-1]
    names = header.split("\t")
    columns = [name.strip() for name in lines[0].decode("utf-8-sig", "replace").lower().split("\t")]
    spelled = [re.sub(r"[^a-z0-9]+", "_", name).strip("_") for name in columns]
    is_of_form = {"commit", "status", "description", names[1]} <= set(spelled)
    columns = spelled if is_of_form else names
    head = "" if is_of_form else f"{header}\n"
    while True:
        with database.read() as session:
            rows = queries.list_results(session, project_id, hardware_class, last_run, BATCH_ROWS)
        if not rows:
            return
        if not end.endswith(b"\n"):
            yield b"\n"
        text = (head + "".join(_format_result(row, columns, names[1]) for row in rows)).encode()
        head = ""
        yield text
        end, last_run = text, rows[-1].run_id


def _format_result(row: LabelledRow, columns: Sequence[str], metric: str) -> str:
    """One line, in the columns of the header; what the original loop does not know of is empty."""
    is_ok = row.outcome == RunOutcome.OK and row.metric is not None
    is_kept = row.description is None or row.verdict == Verdict.IMPROVED
    values = {
        "commit": row.sha[:SHORT_SHA],
        metric: format_decimals(row.metric if is_ok else 0.0),
        "memory_gb": "" if row.peak_memory_mib is None else f"{row.peak_memory_mib / 1024:.1f}",
        "status": ("keep" if is_kept else "discard") if is_ok else "crash",
        "description": " ".join((row.description or "baseline").split()),
    }
    return "\t".join(values.get(column, "") for column in columns) + "\n"
