"""Plans of an import: the commits of rows. A dictionary replaces git."""

from collections.abc import Iterator

from coordinator.autoresearch.plan import make_plan
from coordinator.autoresearch.results_file import ResultRow, parse_results
from shared.contract import Direction

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

    def identify_code(self, sha: str) -> str:
        return sha


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


def test_of_several_rows_with_one_hash_one_owns_it() -> None:
    steps = plan(
        "aaaa\t1.0\tkeep\tbaseline", "bbbb\t0.9\tkeep\traise DEPTH to 9", "bbbb\t0.95\tdiscard\tgamma 0.1",
        "bbbb\t0.91\tdiscard\traise depth to 9", "bbbb\t0.92\tdiscard\tanother seed", "bbbb\t0.96\tdiscard\tgamma 0.1",
        "cccc\t0.8\tkeep\tLower LR to 0.1",
    )  # fmt: skip
    assert steps == [
        (ROOT, None), (FIRST, ROOT), ("line 4", FIRST), (FIRST, None), (FIRST, None), ("line 4", None), (SECOND, FIRST),
    ]  # fmt: skip


def test_the_row_whose_words_the_commit_has_owns_it() -> None:
    steps = plan("aaaa\t1.0\tkeep\tbaseline", "bbbb\t0.95\tdiscard\tgamma 0.1", "bbbb\t0.9\tkeep\traise DEPTH to 9")
    assert steps == [(ROOT, None), ("line 3", ROOT), (FIRST, ROOT)]


def test_a_repeat_that_assigns_another_value_is_no_run_of_the_commit_whose_hash_it_has() -> None:
    """Agents log HEAD for edits that they did not commit, repeats of older configurations among them."""
    steps = plan(
        "aaaa\t1.0\tkeep\tbaseline", "bbbb\t0.9\tkeep\twarmdown 0.3 -> 0.2, frac=0.67",
        "bbbb\t0.91\tdiscard\trepro, clean GPU", "bbbb\t0.95\tdiscard\tR64 repro baseline warmdown=0.3 T=2",
        "bbbb\t0.92\tdiscard\twarmdown=0.2 repro, frac=0.67 seed=3",
    )  # fmt: skip
    assert steps == [(ROOT, None), (FIRST, ROOT), (FIRST, None), ("line 5", FIRST), (FIRST, None)]


def test_repeats_measure_what_was_there() -> None:
    told = rows(
        "aaaa\t1.0\tkeep\tbaseline", "bbbb\t0.9\tkeep\traise DEPTH to 9", "s1\t0.91\tdiscard\trandom seed 42 to 137",
        "s2\t0.95\tdiscard\tgamma 0.1 to 0.2", "s3\t0.96\tdiscard\tGamma 0.1  to 0.2",
        "\t1.01\tdiscard\tbaseline again",
    )  # fmt: skip
    made = make_plan(told, Branch(), Direction.MINIMIZE)
    assert [(step.key, step.parent) for step in made.steps] == [
        (ROOT, None), (FIRST, ROOT), (FIRST, None), ("line 5", FIRST), ("line 5", None), (ROOT, None),
    ]  # fmt: skip
    assert made.repeats == [4, 6, 7] and made.split == []


def test_a_commit_started_from_the_code_that_was_there() -> None:
    """OLD - ROOT - FIRST (discarded) - a commit that takes it back, and others that change no code - SECOND."""

    class Reverted(Branch):
        parents = {ROOT: None, FIRST: ROOT, OLD: FIRST, SECOND: OLD}  # noqa: RUF012  never changed

        def list_branch(self) -> list[str]:
            return [ROOT, FIRST, OLD, SECOND]

        def identify_code(self, sha: str) -> str:
            return {OLD: "root's"}.get(sha, "root's" if sha == ROOT else sha)

    told = rows("aaaa\t1.0\tkeep\tbaseline", "bbbb\t1.1\tdiscard\tx", "cccc\t0.9\tkeep\ty")
    steps = make_plan(told, Reverted(), Direction.MINIMIZE).steps
    assert [(step.key, step.parent) for step in steps] == [(ROOT, None), (FIRST, ROOT), (SECOND, ROOT)]


def test_what_was_taken_back_is_no_parent_though_other_code_changed_in_between() -> None:
    """ROOT (kept) - OLD mends the script - FIRST (discarded) - a commit that takes it back - SECOND, and so on."""
    back, later, undone, last = "1" * 40, "2" * 40, "3" * 40, "4" * 40
    line = [ROOT, OLD, FIRST, back, SECOND, later, undone, last]

    class Mended(Branch):
        parents = dict(zip(line, [None, *line[:-1]], strict=True))  # noqa: RUF012

        def list_branch(self) -> list[str]:
            return line

        def read_subject(self, sha: str) -> str:
            return sha

        def identify_code(self, sha: str) -> str:
            return {back: "mended", OLD: "mended", undone: "mended"}.get(sha, sha)

    told = rows("aaaa\t1.0\tkeep\tbaseline", "bbbb\t1.1\tdiscard\tx", "cccc\t1.2\tdiscard\ty", "4444\t0.9\tkeep\tz")
    steps = make_plan(told, Mended(), Direction.MINIMIZE).steps
    assert [(step.key, step.parent) for step in steps] == [(ROOT, None), (FIRST, ROOT), (SECOND, ROOT), (last, ROOT)]


def test_parents_that_the_log_names_and_groups_with_baselines_of_their_own() -> None:
    header = "id\tparent\tgpu\tval_bpb\tstatus\tdescription"
    lines = ["e1\t\t0\t1.0\tkeep\tbaseline", "e2\t\t0\t0.9\tkeep\tx", "e3\te1\t0\t0.95\tdiscard\ty",
             "f1\t\t1\t0.7\tkeep\tbaseline of the other", "f2\t\t1\t0.6\tkeep\tz",
             "e4\tzz\t0\t0.8\tkeep\tw"]  # fmt: skip
    told = parse_results("\n".join([header, *lines]).encode()).rows
    steps, orphans = (found := make_plan(told, Branch(), Direction.MINIMIZE)).steps, found.orphans
    assert orphans == [7]
    assert [(step.key, step.parent) for step in steps] == [
        (OLD, None), ("line 3", OLD), ("line 4", OLD), ("line 5", OLD), ("line 6", "line 5"), ("line 7", "line 3"),
    ]  # fmt: skip


def test_a_first_row_that_git_does_not_know_and_nobody_kept_is_not_the_root() -> None:
    assert plan("none\t1.2\tdiscard\tx", "bbbb\t0.9\tkeep\ty")[0] == ("line 2", ROOT)


def test_a_repository_that_begins_later_has_no_root_for_the_first_row() -> None:
    steps = plan("eeee\t1.0\tkeep\tbaseline", "0000\t0.9\tkeep\tx", "aaaa\t0.8\tkeep\ty")
    assert steps == [("line 2", OLD), (OLD, None), (ROOT, OLD)], "the baseline is not what the oldest commit measured"


def test_a_search_beside_another_begins_with_a_commit_of_its_own_if_its_baseline_is_far() -> None:
    header = "run\tval_bpb\tstatus\tdescription"
    lines = ["A\t1.0\tkeep\tbaseline", "B\t{}\tkeep\tbaseline", "A\t0.9\tkeep\tdepth 9", "B\t1.9\tdiscard\tdepth 9"]
    text = "\n".join([header, *lines])
    far, near = (
        make_plan(parse_results(text.format(of_b).encode()).rows, Branch(), Direction.MINIMIZE)
        for of_b in ("1.85", "1.01")
    )
    assert [step.parent for step in far.steps] == [None, OLD, OLD, "line 3"] and not far.repeats
    assert near.repeats == [3, 5], "the same code, measured by another"


def test_a_repetition_that_another_ones_words_begin_is_of_the_best_all_the_same() -> None:
    steps = plan(
        "aaaa\t1.0\tkeep\tbaseline", "\t1.01\tdiscard\trerun of the best, seed 9", "bbbb\t0.9\tkeep\tx",
        "\t0.91\tdiscard\trerun of the best, seed 97",
    )  # fmt: skip
    assert [key for key, _ in steps] == [ROOT, ROOT, FIRST, FIRST]
