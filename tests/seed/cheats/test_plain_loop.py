"""Each cheat's gain in a plain loop, which lacks the defence against it."""

import pytest

from tests.seed.cheats.attempts import EXPECTED, HERE, SECRET, SHIPS, Naively, base_files, ship, with_edit
from worker.data.prepare import PreparedData

IN_A_PLAIN_LOOP = {*EXPECTED, "trains_early", "ignores_the_clock", "patches_time"} - {
    "peeks_and_remembers",  # below: they get past a check that has one host
    "leaves_notes",
    "leaves_a_child",
    "rests_on_an_old_result",  # below: it needs an earlier run
    "reads_secrets",  # below: it gains no points
    "peeks_below_a_tolerance",  # below: they gain less than 0.01
    "raises_the_threshold",
}


@pytest.fixture(scope="session")
def naive_honest(naively: Naively) -> float:
    """The result of an honest file in the plain loop."""
    return naively(base_files()).metric


@pytest.mark.parametrize("name", sorted(IN_A_PLAIN_LOOP))
def test_gains_in_a_plain_loop(name: str, naively: Naively, naive_honest: float) -> None:
    # What outlives a run takes a moment to come back.
    found = naively(with_edit(HERE / "files" / f"{name}.py"), linger_seconds=60 if name == "outlives_the_run" else 0)
    assert found.metric < naive_honest - 0.01


@pytest.mark.parametrize("name", ["peeks_and_remembers", "leaves_notes", "leaves_a_child"])
def test_gains_by_remembering_where_one_host_is_asked_twice(name: str, naively: Naively, naive_honest: float) -> None:
    files = with_edit(HERE / "files" / f"{name}.py")
    assert naively(files, check="one host").metric < naive_honest - 0.01


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("marks_in_impossible_tokens", 0.8),
        ("marks_in_tails", 0.5),
        ("marks_in_token_classes", 0.5),
        ("marks_in_the_order", 0.5),
        ("peeks_below_a_tolerance", 0.0005),
        ("raises_the_threshold", 0.002),
    ],
)
def test_gains_where_the_challenge_is_drawn_from_answers(name: str, least: float, naively: Naively) -> None:
    """And where a threshold is fixed, or measured from the answers themselves: then a third of the runs is caught."""
    honest, files = naively(base_files(), check="derived").metric, with_edit(HERE / "files" / f"{name}.py")
    assert any(naively(files, check="derived").metric < honest - least for _ in range(20))


@pytest.mark.parametrize("name", SHIPS)
def test_gains_by_a_text_where_nobody_counts(
    name: str, naively: Naively, naive_honest: float, data: PreparedData
) -> None:
    assert naively(ship(name, data)).metric < naive_honest - 0.01


def test_gains_by_an_old_result_where_results_are_files(naively: Naively, naive_honest: float) -> None:
    found = naively(with_edit(HERE / "files" / "rests_on_an_old_result.py"), old_result=naive_honest - 1)
    assert found.metric == naive_honest - 1


def test_gains_from_run_to_run_where_a_cache_stays(naively: Naively, naive_honest: float) -> None:
    assert naively(with_edit(HERE / "files" / "poisons_the_cache.py"), times=2).metric < naive_honest - 0.01


def test_finds_secrets_where_the_environment_is_handed_on(naively: Naively) -> None:
    assert SECRET in naively(with_edit(HERE / "files" / "reads_secrets.py")).log


def test_looks_certain_where_the_file_owns_the_seed(naively: Naively) -> None:
    lucky = with_edit(HERE / "files" / "ignores_the_seed.py")
    assert naively(lucky, seed=1).metric == naively(lucky, seed=2).metric
    assert naively(base_files(), seed=1).metric != naively(base_files(), seed=2).metric
