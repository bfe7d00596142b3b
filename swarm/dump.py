"""`swarm export`: all public data of a project in a folder, in formats that outlive the server.

The folder is written under another name and renamed at the end, so it is complete or absent.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from hashlib import file_digest
from pathlib import Path

from shared import checkpoints
from shared.contract import CONTRACT_FILE
from shared.export import BUNDLE_FILE, CHECKPOINT_FILE, HISTORY_FILE, MANIFEST_FILE, ExportFormat, ExportTable
from shared.projects import ProjectView
from shared.protocol import now
from swarm.client import Client
from swarm.listing import CommandError

RESULTS, README = "results.tsv", "README.md"

_ABOUT = """\
# {title}

An export of the project `{name}` from {url}, {moment:%Y-%m-%d %H:%M} UTC.

- `{contract}`: the contract (metric, limits, editable files).
- `experiments.*`, `runs.*`, `findings.*`, `citations.*`, `promotions.*`: one row each, described in `docs/api.md`
  of the research swarm. Effects are metric(child) - metric(parent), with the offsets of workers removed.
- `{results}`: the same as a table of the original autoresearch form (missing where nothing was measured).
- `{bundle}`: every commit, failures included: `git clone {bundle}`. Each experiment has a tag `experiments/N`.
- `{history}` and `{checkpoint}`: the log of all results, and its signed root: `swarm verify .`
- `{manifest}`: size and SHA-256 of each file.
"""


def write_dump(
    client: Client, project: ProjectView, folder: Path, formats: list[ExportFormat], report: Callable[[str], None]
) -> None:
    """Writes a project's dump to a new folder. Raises CommandError."""
    if folder.exists():
        raise CommandError(f"{folder} exists already; name another folder.")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write_all(client, project, unfinished, formats, report)
        unfinished.rename(folder)
    except OSError as error:
        raise CommandError(f"cannot write to {folder}: {error.strerror}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_all(
    client: Client, project: ProjectView, folder: Path, formats: list[ExportFormat], report: Callable[[str], None]
) -> None:
    (folder / CONTRACT_FILE).write_text(project.contract, encoding="utf-8")
    files = [CONTRACT_FILE]
    streams: dict[str, Iterator[bytes]] = {
        f"{table}.{format_}": client.export(project.name, table, format_)
        for table in ExportTable
        for format_ in formats
    }
    if client.list_hardware_classes(project.name):
        streams[RESULTS] = client.export_results(project.name)
    streams[BUNDLE_FILE] = client.download_history(project.name)
    checkpoint = client.find_checkpoint(project.name)
    if checkpoint is not None:  # older than the tables, so that each of its entries is in them
        streams[CHECKPOINT_FILE] = iter([checkpoint.encode()])
        streams[HISTORY_FILE] = client.export_history(project.name, checkpoints.parse(checkpoint).size)
    for name, chunks in streams.items():
        with (folder / name).open("wb") as file:
            file.writelines(chunks)
        files.append(name)
        report(f"{(folder / name).stat().st_size:>12,} bytes  {name}")
    about = _ABOUT.format(
        title=project.title, name=project.name, url=client.url, moment=now(), contract=CONTRACT_FILE, results=RESULTS,
        bundle=BUNDLE_FILE, manifest=MANIFEST_FILE, history=HISTORY_FILE, checkpoint=CHECKPOINT_FILE,
    )  # fmt: skip
    (folder / README).write_text(about, encoding="utf-8")
    manifest = {name: _describe(folder / name) for name in [*files, README]}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _describe(file: Path) -> dict[str, int | str]:
    with file.open("rb") as opened:
        return {"bytes": file.stat().st_size, "sha256": file_digest(opened, "sha256").hexdigest()}
