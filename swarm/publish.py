"""`swarm publish`: lays a snapshot out as Zenodo and Hugging Face take it. Nothing is sent."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from shared.export import SNAPSHOT_FILE, SUMS_FILE, SnapshotView
from swarm.listing import CommandError
from swarm.verify import verify_folder

ZENODO = "https://zenodo.org/api/deposit/depositions"


def prepare(snapshot: Path, folder: Path) -> Iterator[str]:
    """Write both layouts to a new folder; tells what is to be done. Raises CommandError, also where `snapshot` does not
    verify."""
    if not (snapshot / SUMS_FILE).is_file() or not (snapshot / SNAPSHOT_FILE).is_file():
        raise CommandError(f"{snapshot} is no snapshot. Make one: swarm-coordinator snapshot NAME.")
    if folder.exists():
        raise CommandError(f"{folder} exists already; name another folder.")
    problems = verify_folder(snapshot, None, None).problems
    if problems:
        raise CommandError(f"{snapshot} does not verify: {problems[0]}.")
    view = SnapshotView.model_validate_json((snapshot / SNAPSHOT_FILE).read_bytes(), extra="ignore")
    files = sorted(snapshot.iterdir())
    for place in ("huggingface", "zenodo/files"):
        (folder / place).mkdir(parents=True)
        for file in files:
            _place(file, folder / place / file.name)
    metadata = json.loads((snapshot / ".zenodo.json").read_text(encoding="utf-8"))
    (folder / "zenodo" / "deposit.json").write_text(json.dumps({"metadata": metadata}, indent=2), encoding="utf-8")
    size = sum(file.stat().st_size for file in files)
    here = quote(str(folder))
    header = '-H "Authorization: Bearer $ZENODO_TOKEN"'
    send = f'curl {header} --upload-file "$file" "$BUCKET/$(basename "$file")"'
    yield f"{folder}: {len(files)} files, {size:,} bytes, for two places. Nothing has been sent to either."
    yield f"Hugging Face:  hf upload OWNER/{view.project}-{view.name} {here}/huggingface . --repo-type dataset"
    new = f"{header} -H 'Content-Type: application/json' --data @{here}/zenodo/deposit.json"
    yield f"Zenodo:  curl -X POST {new} {ZENODO}"
    names = f"{here}/zenodo/files/* {here}/zenodo/files/.z*"
    yield f"then, with the `bucket` of its answer as $BUCKET:  for file in {names}; do {send}; done"


def _place(file: Path, target: Path) -> None:
    """The same file, without another copy where the disk allows that."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
