"""`verify` finds what is wrong and names it."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.events.history import append_pending
from coordinator.models import StoredObject
from coordinator.records.progress import follow_runs
from tests.coordinator.admin.conftest import show_nothing
from tests.support.databases import ON_ONE_ENGINE

NOWHERE = "0" * 40
NEWEST = "(select commit_sha from experiments order by id desc limit 1)"
NEWEST_FILE = "(select sha from git_objects where kind = 'blob' and base_sha is not null order by sha limit 1)"
ROOT = "(select root_sha from projects)"
ONE_POSTERIOR = "commit_sha = (select min(commit_sha) from commit_posteriors where effect_mean is not null)"

DAMAGES = {
    "a file is gone": (f"delete from git_objects where sha = {NEWEST_FILE}", "which is missing"),
    "a commit's object is gone": (f"delete from git_objects where sha = {NEWEST}", "its object is missing"),
    "a base is gone": (
        "delete from git_objects where sha in (select base_sha from git_objects)",
        "is missing from the database",
    ),
    "another content": ("update git_objects set kind = 'blob' where kind = 'tree'", "holds other content"),
    "another size": ("update git_objects set size = size + 1 where kind = 'commit'", "holds other content"),
    "a commit is gone": (f"delete from commits where sha = {NEWEST}", "commit_sha names"),
    "a branch leads nowhere": (f"update branches set head_sha = '{NOWHERE}'", f"branches 1: head_sha names {NOWHERE}"),
    "an experiment is gone": (
        "delete from experiments where id = (select experiment_id from findings order by id limit 1)",
        "findings 1: experiment_id names",
    ),
    "a move from nowhere": (f"update branch_moves set to_sha = '{NOWHERE}'", "branch move 1: it leads from or to"),
    "a head that nobody moved": (f"update branches set head_sha = {NEWEST}", "its head is not where its last move led"),
    "a branch that counts wrongly": ("update branches set experiments = experiments + 1", "experiments are counted"),
    "a leader of nowhere": (
        "insert into leader_changes (project_id, hardware_class, is_record, run_number, commit_sha, metric_mean,"
        f" metric_sd, changed_at) select id, 'c', false, 1, '{NOWHERE}', 0, 0, created_at from projects",
        "is no commit of its project",
    ),
    "a leader of no run": ("update leader_changes set run_number = 10000", "it is of run 10000 of a class"),
    "two roots": (f"update commits set parent_sha = null where sha = {NEWEST}", "the commits without parent are"),
    "another tree": (
        f"update commits set tree_sha = (select tree_sha from commits where sha = {ROOT}) where sha = {NEWEST}",
        "its row says",
    ),
    "too deep": (f"update commits set depth = 99 where sha = {NEWEST}", "not one deeper than its parent"),
    "another parent": (f"update experiments set parent_sha = {NEWEST} where id = 1", "experiment 1: its commit"),
    "a run is gone": ("delete from runs where id = (select max(id) from runs)", "it is done, and its run is missing"),
    "a run is of no lease": (
        "update leases set result_key = null where id = (select lease_id from runs where id = 1)",
        "run 1: it is not the result of its lease",
    ),
    "a finding is gone": ("delete from findings where experiment_id = 3", "experiment 3: its run or its finding is"),
    "another project's run": ("update runs set project_id = 99 where id = 1", "the commit is in another project"),
    "another commit's run": ("update runs set experiment_id = 2 where experiment_id = 1", "measured another commit"),
    "a mean that no run gives": (
        f"update commit_posteriors set metric_mean = metric_mean + 0.00001 where {ONE_POSTERIOR}",
        "metric_mean is",
    ),
    "another verdict": (f"update commit_posteriors set verdict = 'held' where {ONE_POSTERIOR}", "verdict is held"),
    "a metric was changed": ("update runs set metric = metric - 1 where outcome = 'ok'", "metric_mean is"),
    "an entry of the log was changed": (
        "update history_entries set leaf = replace(leaf, 'result', 'results') where number = 3",
        "is not the one that was entered",
    ),
    "a result was changed with its numbers": ("update runs set seed = 4711 where id = 2", "entry 2 says of result 2"),
    "the log was cut": (
        "delete from history_entries where number = (select max(number) from history_entries)",
        "with another root than",
    ),
    "an entry is gone": ("delete from history_entries where number = 4", "entry 4 is missing"),
    "the log has another head": ("update history_heads set note = replace(note, 'swarm', 'other')", "is not signed"),
    "a posterior is gone": (f"delete from commit_posteriors where {ONE_POSTERIOR}", "has no posterior there"),
}


def damage(session: Session, statement: str) -> None:
    """Change rows behind the keys' back, within a transaction that will be taken back."""
    session.execute(text("pragma defer_foreign_keys = on"))
    assert session.execute(text(statement)).rowcount > 0, "nothing was damaged"  # type: ignore[attr-defined]


def test_a_whole_database_has_no_problems(filled: Database) -> None:
    shown: dict[str, tuple[int, int]] = {}
    with filled.read() as session:
        assert list(find_problems(session, lambda what, done, total: shown.update({what: (done, total)}))) == []
        objects = session.query(StoredObject).count()
    assert shown["objects"] == (objects, objects)
    assert set(shown) == {"objects", "commits", "posteriors"}


@ON_ONE_ENGINE
def test_every_damage_is_found_and_named(filled: Database, subtests: pytest.Subtests) -> None:
    follow_runs(filled)
    append_pending(filled)
    for name, (statement, words) in DAMAGES.items():
        with subtests.test(msg=name), pytest.raises(RollbackError), filled.write() as session:
            damage(session, statement)
            problems = list(find_problems(session, show_nothing))
            assert any(words in problem for problem in problems), problems
            assert all("\n" not in problem for problem in problems)
            raise RollbackError
    with filled.read() as session:
        assert list(find_problems(session, show_nothing)) == [], "the damages were taken back"


class RollbackError(Exception):
    """Ends a transaction without its changes."""
