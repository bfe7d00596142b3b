"""Exports with a history, made without a server, and changed as somebody would who wants to hide something."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from coordinator.db.database import Database
from coordinator.events import history
from coordinator.export import service
from coordinator.git_http import packs
from coordinator.projects import service as projects
from shared import checkpoints
from shared.checkpoints import Checkpoint
from shared.export import BUNDLE_FILE, CHECKPOINT_FILE, HISTORY_FILE, MANIFEST_FILE, ExportFormat, ExportTable
from shared.merkle import GrowingTree


def write_export(database: Database, name: str, folder: Path) -> Path:
    """An export of a project, with its history up to now."""
    history.append_pending(database)
    folder.mkdir()
    with database.read() as session:
        project = projects.get_project(session, name)
        head = history.get_head(session, project)
        for table in (ExportTable.RUNS, ExportTable.FINDINGS, ExportTable.EXPERIMENTS, ExportTable.CITATIONS):
            for format_ in ExportFormat:
                rows = service.export_table(database, session, project, table, format_)
                (folder / f"{table}.{format_}").write_bytes(b"".join(rows))
        bundle = packs.stream_bundle(
            database, packs.write_bundle_header(session, project.id), packs.list_history(session, project.id)
        )
        (folder / BUNDLE_FILE).write_bytes(b"".join(bundle))
        (folder / HISTORY_FILE).write_bytes(b"".join(history.stream_lines(database, project.id, head.size)))
        (folder / CHECKPOINT_FILE).write_text(head.note)
    return seal(folder)


def seal(folder: Path) -> Path:
    """Make the checksums fit the files, as anybody can."""
    files = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE]
    sums = {path.name: {"sha256": sha256(path.read_bytes()).hexdigest()} for path in files}
    (folder / MANIFEST_FILE).write_text(json.dumps(sums))
    return folder


def publish(folder: Path, lines: Sequence[str], secret: bytes, origin: str) -> Path:
    """Write a log anew and sign it, as only the holder of the key can."""
    tree = GrowingTree()
    for line in lines:
        tree.append(line.encode())
    (folder / HISTORY_FILE).write_text("".join(f"{line}\n" for line in lines))
    (folder / CHECKPOINT_FILE).write_text(checkpoints.sign(Checkpoint(origin, tree.size, tree.root()), [secret]))
    return seal(folder)
