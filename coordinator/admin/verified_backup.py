"""Backups that are known to be good: each is restored into a scratch database, which is verified.

A file has its name only after that, and only then an older one may be removed. The audit log has the time, which
`/metrics` shows.
"""

from contextlib import suppress
from getpass import getuser
from pathlib import Path

from coordinator.admin import queries
from coordinator.admin.backup import BackupError, backup, open_scratch, refuse_existing, restore
from coordinator.admin.console import ShowProgress
from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.events import audit
from coordinator.events.audit import Actor
from coordinator.models import Commit, Run
from shared.formatting import count_noun
from shared.protocol import now

UNVERIFIED = "swarm.unverified"
"""Name of a backup until it is verified. One that turns out wrong keeps it, until the next one."""

NAMED_BY_TIME = "swarm-{:%Y%m%dT%H%M%SZ}.backup"
MATCHES_NAMES = "swarm-????????T??????Z.backup"


def choose_file(place: Path) -> Path:
    """`place` itself, or if it is a folder, a file in it that is named by the time."""
    return place / NAMED_BY_TIME.format(now()) if place.is_dir() else place


def backup_verified(
    database: Database, file: Path, pg_bin: Path | None, show_progress: ShowProgress, *, force: bool
) -> tuple[int, int]:
    """Write the database to `file`, restore that and verify it. Returns its commits and runs.

    Raises BackupError, also where the copy has a problem; what was written is left as `swarm.unverified` then.
    """
    refuse_existing(file, force)
    if not database.is_current():
        raise BackupError(f"the schema of {database.safe_url} is of another version; start that version's coordinator.")
    least = _count(database)
    unverified = file.with_name(UNVERIFIED)
    backup(database, unverified, pg_bin, show_progress, force=True)
    with open_scratch(database, file.parent) as scratch:
        restore(scratch, unverified, pg_bin, show_progress)
        with scratch.read() as session:
            problems = list(find_problems(session, show_progress))
        found = _count(scratch)
    if found[0] < least[0] or found[1] < least[1]:  # none is ever removed
        problems.append(f"it has {found[0]} commits and {found[1]} runs, the database has {least[0]} and {least[1]}")
    if problems:
        raise BackupError(
            f"the backup was restored and has {count_noun(len(problems), 'problem')}, the first: {problems[0]}. "
            f"It is left as {unverified}; `swarm-coordinator verify` lists what the database itself has."
        )
    size = unverified.stat().st_size
    unverified.replace(file)
    with database.write() as session:
        audit.record_backup(session, Actor(_name_user()), {"commits": found[0], "runs": found[1], "bytes": size})
    return found


def _count(database: Database) -> tuple[int, int]:
    with database.read() as session:
        return queries.count_rows(session, Commit), queries.count_rows(session, Run)


def _name_user() -> str:
    """The name of who runs this; in a container a user may have none."""
    with suppress(KeyError, OSError):
        return getuser()
    return "backup"


def remove_old(folder: Path, keep: int) -> list[Path]:
    """Remove all backups of a folder that are named by their time, but the newest `keep`. Returns the removed ones."""
    old = sorted(folder.glob(MATCHES_NAMES), reverse=True)[keep:]
    for file in old:
        file.unlink()
    return old
