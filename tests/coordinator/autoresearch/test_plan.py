"""Plans of an import: the commits of rows and the changes that descriptions name. A dictionary replaces git."""

from collections.abc import Iterator

import pytest

from coordinator.autoresearch.plan import Change, make_plan, read_change
from coordinator.autoresearch.results_file import ResultRow, parse_results
from shared.contract import Direction
from shared.experiments import AxisDirection

OLD, ROOT, FIRST, SECOND, ASIDE = ("0" * 40, "a" * 40, "b" * 40, "c" * 40, "d" * 40)


class Branch:
    """OLD - ROOT - FIRST - SECOND, and ASIDE beside SECOND."""

    parents = {OLD: None, ROOT: OLD, FIRST: ROOT, SECOND: FIRST, ASIDE: FIRST}  # noqa: RUF012  never changed
    subjects = {OLD: "old", ROOT: "root", FIRST: "raise DEPTH to 9", SECOND: "Lower LR to 0.1 (kept)", ASIDE: "gelu"}  # noqa: RUF012

    def list_branch(self) -> list[str]:
        return [OLD, ROOT, FIRST, SECOND]

    def list_ancestors(self, sha: str) -> Iterator[str]:
        name: str | None = sha
        while name is not None:
            yield name
            name = self.parents[name]

    def resolve(self, prefix: str) -> str | None:
        return next((sha for sha in self.parents if len(prefix) > 3 and sha.startswith(prefix)), None)

    def read_subject(self, sha: str) -> str:
        return self.subjects[sha]


def rows(*lines: str) -> list[ResultRow]:
    header = "commit\tval_bpb\tstatus\tdescription"
    return parse_results("\n".join([header, *lines]).encode()).rows


def plan(*lines: str) -> list[tuple[str, str | None]]:
    return [(step.key, step.parent) for step in make_plan(rows(*lines), Branch(), Direction.MINIMIZE).steps]


def test_parents_are_gits_and_what_is_lost_follows_the_best() -> None:
    steps = plan(
        "aaaa\t1.0\tkeep\tbaseline", "eeee\t1.1\tdiscard\tlost", "bbbb\t0.9\tkeep\tx", "dddd\t0.95\tdiscard\ty",
        "cccc\t0.92\tkeep\tworse, kept all the same", "\t0\tcrash\tlost too",
    )  # fmt: skip
    assert steps == [
        (ROOT, None), ("line 3", ROOT), (FIRST, ROOT), (ASIDE, FIRST), (SECOND, FIRST), ("line 7", FIRST),
    ]  # fmt: skip


def test_a_commit_that_was_measured_again_is_one_commit() -> None:
    again = "aaaa\t1.01\tdiscard\tagain"
    steps = plan("aaaa\t1.0\tkeep\tbaseline", again, "bbbb\t0.9\tkeep\tx", "bbbb\t0.91\tkeep\tx")
    assert steps == [(ROOT, None), (ROOT, None), (FIRST, ROOT), (FIRST, None)]


def test_rows_without_a_hash_are_found_by_what_they_say_if_they_were_kept() -> None:
    steps = plan("\t1.0\tkeep\tbaseline", "\t1.2\tdiscard\traise DEPTH to 9", "\t0.9\tkeep\traise depth  to 9",
                 "\t0.8\tkeep\tlower LR to 0.1", "\t0.7\tkeep\tnobody knows")  # fmt: skip
    assert steps == [(ROOT, None), ("line 3", ROOT), (FIRST, ROOT), (SECOND, FIRST), ("line 6", SECOND)]


def test_the_root_without_any_hash_is_the_oldest() -> None:
    assert plan("baseline\t1.0\tkeep\tbaseline", "\t0.9\tkeep\tnobody knows") == [(OLD, None), ("line 3", OLD)]


def test_the_head_is_the_best_that_has_code() -> None:
    told = rows("aaaa\t1.0\tkeep\tbaseline", "bbbb\t0.9\tkeep\tx", "\t0.5\tkeep\tnobody knows")
    assert make_plan(told, Branch(), Direction.MINIMIZE).head == FIRST
    assert make_plan(told, Branch(), Direction.MAXIMIZE).head == ROOT


@pytest.mark.parametrize(
    ("description", "axis", "direction", "value"),
    [
        ("matrix_lr 0.04->0.03 — val_bpb improved 1.705->1.691", "matrix_lr", AxisDirection.DOWN, "0.03"),
        ("adam beta2 0.95->0.9", "adam beta2", AxisDirection.DOWN, "0.9"),
        ("batch 2^16->2^15", "batch", AxisDirection.CHANGE, "2^15"),
        ("increase MATRIX_LR to 0.05", "MATRIX_LR", AxisDirection.UP, "0.05"),
        ("reduce WEIGHT_DECAY to 0.17 (too low)", "WEIGHT_DECAY", AxisDirection.DOWN, "0.17"),
        ("fine-tune MATRIX_LR to 0.075", "MATRIX_LR", AxisDirection.CHANGE, ""),
        ("apply best focused Bayesian config", "other", AxisDirection.CHANGE, ""),
        ("x" * 500 + " 1->2", "x" * 200, AxisDirection.UP, "2"),
    ],
)
def test_changes_are_read(description: str, axis: str, direction: AxisDirection, value: str) -> None:
    assert read_change(description) == Change(axis, direction, value)
