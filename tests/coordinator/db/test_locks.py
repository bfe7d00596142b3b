"""Advisory locks: each use has a number of its own."""

import ast
from pathlib import Path

import coordinator
from coordinator.db.locks import AdvisoryLock


def test_no_two_locks_share_a_number() -> None:
    assert len(set(AdvisoryLock.__members__.values())) == len(AdvisoryLock.__members__)
    assert all(lock >= 0 for lock in AdvisoryLock), "hashes have the negative numbers"


def test_numbers_stand_in_one_module_only() -> None:
    numbers = {int(lock) for lock in AdvisoryLock}
    for path in Path(coordinator.__file__).parent.rglob("*.py"):
        if path.name == "locks.py":
            continue
        text = path.read_text(encoding="utf-8")
        used = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
        assert not used & numbers and "advisory_xact_lock" not in text, f"use coordinator/db/locks.py in {path}"
