"""Snapshots: what is public of a project at one moment, in a folder that archives take and that nothing changes.

All files are written from one frozen copy of the database. The same rows give the same bytes: the time of a snapshot is
that of the log's newest entry, and nothing else of the moment in which it is made is in it.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.events import history
from coordinator.evidence.epochs import list_left_out
from coordinator.evidence.renewal import follow_decisions
from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.export import citation, service
from coordinator.export.frozen import compact, freeze
from coordinator.export.service import SnapshotError
from coordinator.git_http import packs
from coordinator.models import EvidenceEpoch, Experiment, Finding, Project, Run, view_of
from coordinator.projects import service as projects
from coordinator.projects.settings import settings_of
from shared import checkpoints
from shared.contract import CONTRACT_FILE
from shared.export import (
    BUNDLE_FILE,
    CHECKPOINT_FILE,
    HISTORY_FILE,
    SIGNED_SUMS_FILE,
    SNAPSHOT_DATABASE,
    SNAPSHOT_FILE,
    SUMS_FILE,
    ExportFormat,
    ExportTable,
    FrozenEpoch,
    SnapshotView,
)
from shared.projects import DataLicence

Report = Callable[[str], None]

SETTLE_SECONDS = 600.0
"""Longest wait for numbers that are derived again in the background: else a snapshot keeps what does not follow from
its runs."""


def write_snapshot(
    database: Database, project_name: str, name: str, folder: Path, url: str, report: Report
) -> SnapshotView:
    """Write a snapshot to a new folder. It is complete or absent. Raises SnapshotError, NotFoundError."""
    if folder.exists():
        raise SnapshotError(f"{folder} exists already; name another folder.")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        while not (unfinished / SNAPSHOT_DATABASE).exists():
            follow_decisions(database, SETTLE_SECONDS)
            history.append_pending(database)
            with database.read() as session:
                project = projects.get_project(session, project_name)
                if settings_of(project).data_licence == DataLicence.UNSTATED:
                    raise SnapshotError(
                        f"{project_name} states no licence of its data. Ask those who have a say, then: "
                        f'swarm-coordinator project set {project_name} --data-licence CC-BY-4.0 --reason "as agreed".'
                    )
                if not history.has_pending(session, project.id):  # else a result came in between
                    for line in list_left_out(session):
                        report(line)
                    freeze(session, project, unfinished / SNAPSHOT_DATABASE)
        with closing(Database(f"sqlite:///{unfinished / SNAPSHOT_DATABASE}")) as frozen:
            view = _write_files(frozen, unfinished, project_name, name, url, report)
        compact(unfinished / SNAPSHOT_DATABASE)
        sums = _write_sums(unfinished)
        with database.read() as session:
            note = history.sign_sums(session, projects.get_project(session, project_name), sums)
        (unfinished / SIGNED_SUMS_FILE).write_text(note, encoding="utf-8")
        unfinished.rename(folder)
    except OSError as error:
        raise SnapshotError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return view


def _write_files(
    frozen: Database, folder: Path, project_name: str, name: str, url: str, report: Report
) -> SnapshotView:
    with frozen.read() as session:
        project = projects.get_project(session, project_name)
        head = history.get_head(session, project)
        view = _describe(session, project, name)
        streams: dict[str, Iterator[bytes]] = {
            f"{table}.{format_}": service.export_table(frozen, session, project, table, format_)
            for table in ExportTable
            for format_ in ExportFormat
        }
        classes = list_hardware_classes(session, project.id)
        if classes:
            streams["results.tsv"] = service.export_results(frozen, session, project, classes[0].name)
        streams[HISTORY_FILE] = history.stream_lines(frozen, project.id, head.size)
        objects = packs.list_history(session, project.id)
        streams[BUNDLE_FILE] = packs.stream_bundle(frozen, packs.write_bundle_header(session, project.id), objects)
        texts = {
            CONTRACT_FILE: project.contract,
            CHECKPOINT_FILE: head.note,
            SNAPSHOT_FILE: view.model_dump_json(indent=2) + "\n",
            "CITATION.cff": citation.write_cff(view, url),
            "citation.bib": citation.write_bibtex(view, url),
            ".zenodo.json": citation.write_zenodo(view),
            "README.md": citation.write_card(view),
        }
    for file, chunks in streams.items():
        with (folder / file).open("wb") as opened:
            opened.writelines(chunks)
        report(f"{(folder / file).stat().st_size:>12,} bytes  {file}")
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    return view


def _describe(session: Session, project: Project, name: str) -> SnapshotView:
    head = history.get_head(session, project)
    checkpoint = checkpoints.parse(head.note)
    epochs = session.scalars(select(EvidenceEpoch).order_by(EvidenceEpoch.hardware_class)).all()
    count = {model: session.scalar(select(func.count(model.id))) or 0 for model in (Experiment, Run, Finding)}
    return SnapshotView(
        name=name, project=project.name, title=settings_of(project).title, question=project.question,
        as_of=head.signed_at, licence=settings_of(project).data_licence,
        people=citation.list_people(session, settings_of(project).title), experiments=count[Experiment],
        runs=count[Run], findings=count[Finding], origin=checkpoint.origin, log_size=checkpoint.size,
        log_root=checkpoint.root.hex(), epochs=[view_of(FrozenEpoch, epoch) for epoch in epochs],
        version=version("research-swarm"), self_scored=projects.contract_of(project).objective.is_self_scored,
    )  # fmt: skip


def _write_sums(folder: Path) -> bytes:
    """Checksums of all files, as `sha256sum` writes and checks them; returns them."""
    lines = []
    for file in sorted(folder.iterdir()):
        with file.open("rb") as opened:
            lines.append(f"{file_digest(opened, 'sha256').hexdigest()}  {file.name}\n")
    sums = "".join(lines).encode()
    (folder / SUMS_FILE).write_bytes(sums)
    return sums
