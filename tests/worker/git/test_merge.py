"""Merges of any texts, and of those that matter here: constants in neighbouring lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.git.merge import MergeConflict, merge_texts, reapply

BASE = "A = 1\nB = 2\nC = 3\n\n\ndef run():\n    return A\n"
LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", ""]), max_size=8).map("".join)


@given(LINES, LINES)
def test_a_merge_with_what_did_not_change(base: str, other: str) -> None:
    assert merge_texts(base, base, other) == other == merge_texts(base, other, base)
    assert merge_texts(base, other, other) == other


@given(LINES, LINES, LINES)
def test_who_is_merged_into_whom_does_not_matter(base: str, ours: str, theirs: str) -> None:
    try:
        merged = merge_texts(base, ours, theirs)
    except MergeConflict:
        with pytest.raises(MergeConflict):
            merge_texts(base, theirs, ours)
    else:
        assert merge_texts(base, theirs, ours) == merged


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.dictionaries(st.integers(0, 19), st.integers(10, 12)),
    st.dictionaries(st.integers(0, 19), st.integers(10, 12)),
)
def test_changes_of_single_lines_add_up_or_conflict(
    values: list[int], mine: dict[int, int], other: dict[int, int]
) -> None:
    """Each line is a constant of its own name, so that nothing can be taken for something else."""

    def write(changes: dict[int, int]) -> str:
        return "".join(f"K{n} = {changes.get(n, value)}\n" for n, value in enumerate(values))

    both = {n for n in mine.keys() & other.keys() if n < len(values)}
    if any(mine[n] != other[n] for n in both):
        with pytest.raises(MergeConflict, match="was changed by both"):
            merge_texts(write({}), write(mine), write(other))
    else:
        assert merge_texts(write({}), write(mine), write(other)) == write(mine | other)


def test_neighbouring_lines_and_insertions() -> None:
    ours, theirs = BASE.replace("B = 2", "B = 20"), BASE.replace("C = 3", "C = 30")
    assert merge_texts(BASE, ours, theirs) == BASE.replace("2", "20").replace("3", "30")
    longer = BASE.replace("    return A\n", "    total = A\n    return total\n")
    assert merge_texts(BASE, ours, longer) == longer.replace("B = 2", "B = 20")
    with pytest.raises(MergeConflict):
        merge_texts(BASE, BASE + "X = 1\n", BASE + "Y = 1\n")


def test_steps_are_re_applied_to_other_files() -> None:
    before = {"train.py": BASE, "model.py": "x\n"}
    after = before | {"train.py": BASE.replace("B = 2", "B = 20")}
    here = {"train.py": BASE.replace("A = 1", "A = 10"), "model.py": "y\n"}
    assert reapply(here, before, after) == {"train.py": BASE.replace("1", "10").replace("2", "20"), "model.py": "y\n"}
    assert reapply(after, before, after) == after, "done already"
    with pytest.raises(MergeConflict, match=r"train\.py: line 2"):
        reapply({**here, "train.py": BASE.replace("B = 2", "B = 3")}, before, after)
    with pytest.raises(MergeConflict, match="not there on both sides"):
        reapply(here, before, {**after, "new.py": "1\n"})
