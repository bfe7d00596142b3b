"""A project as a `results.tsv` of the original autoresearch form.

What was imported is given back byte for byte; experiments that came since follow in the same columns.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from coordinator.autoresearch import service as autoresearch
from coordinator.db.database import Database
from coordinator.export import queries
from coordinator.export.queries import ResultRow
from coordinator.models import Project
from coordinator.projects import service as projects
from shared.experiments import Verdict
from shared.runs import RunOutcome

BATCH_ROWS = 1000
SHORT_SHA = 7


def export_results(database: Database, session: Session, project: Project, hardware_class: str) -> Iterator[bytes]:
    """The rows of a hardware class, streamed; imported ones, whose class is one, come with that class alone."""
    imported = autoresearch.find_session(session, project.id)
    is_imported = imported is not None and queries.get_worker_class(session, imported.worker_id) == hardware_class
    if is_imported:
        lines, last_run = autoresearch.list_lines(session, project.id), autoresearch.find_last_run(session, project.id)
    else:
        metric = projects.contract_of(project).objective.metric
        lines, last_run = [f"commit\t{metric}\tmemory_gb\tstatus\tdescription\n".encode()], 0
    return _write(database, project.id, hardware_class, lines, last_run)


def _write(
    database: Database, project_id: int, hardware_class: str, lines: Sequence[bytes], last_run: int
) -> Iterator[bytes]:
    yield b"".join(lines)
    header, end = lines[0], lines[-1]
    columns = header.decode("utf-8-sig").strip().lower().split("\t")
    while True:
        with database.scan() as session:
            rows = queries.list_results(session, project_id, hardware_class, last_run, BATCH_ROWS)
        if not rows:
            return
        if not end.endswith(b"\n"):
            yield b"\n"
        text = "".join(_format(row, columns) for row in rows).encode()
        yield text
        end, last_run = text, rows[-1].run_id


def _format(row: ResultRow, columns: list[str]) -> str:
    """One line, in the columns of the header; what the original loop does not know of is empty."""
    is_ok = row.outcome == RunOutcome.OK and row.metric is not None
    is_kept = row.description is None or row.verdict == Verdict.IMPROVED
    values = {
        columns[0]: row.sha[:SHORT_SHA],
        columns[1]: f"{row.metric if is_ok else 0.0:.6f}",
        "memory_gb": f"{row.peak_memory_mib / 1024:.1f}",
        "status": ("keep" if is_kept else "discard") if is_ok else "crash",
        "description": " ".join((row.description or "baseline").split()),
    }
    return "\t".join(values.get(column, "") for column in columns) + "\n"
