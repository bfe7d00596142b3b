"""Shares of the kinds of experiment: whatever they gained."""

from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.db.database import Database
from coordinator.selection import job_mix, queries
from coordinator.selection.job_mix import FLOOR, KindTally, adapt_shares, raise_to_floor, start_shares
from shared.contract import JobMix
from shared.experiments import JobKind

KINDS = [kind for kind in JobKind if kind.makes_experiment]
MIXES = st.builds(
    JobMix, improve=st.floats(0.01, 9), **{k: st.one_of(st.just(0.0), st.floats(0.01, 9)) for k in KINDS[1:]}
)
TALLIES = st.dictionaries(
    st.sampled_from(KINDS),
    st.builds(KindTally, st.integers(1, 10_000), st.floats(1, 1e7), st.one_of(st.just(0.0), st.floats(1e-6, 10))),
)


@given(MIXES, TALLIES)
def test_shares_sum_to_one_and_none_is_below_the_floor(mix: JobMix, tallies: dict[JobKind, KindTally]) -> None:
    shares = adapt_shares(mix, tallies)
    assert shares.keys() == {kind for kind in KINDS if getattr(mix, kind) > 0}
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert all(share >= FLOOR - 1e-12 for share in shares.values())


@given(MIXES, TALLIES, st.sampled_from(KINDS), st.floats(0.001, 10))
def test_who_gains_more_gets_no_less(
    mix: JobMix, tallies: dict[JobKind, KindTally], kind: JobKind, more: float
) -> None:
    if getattr(mix, kind) == 0 or kind not in tallies or not any(tally.gain for tally in tallies.values()):
        return
    richer = tallies | {kind: tallies[kind]._replace(gain=tallies[kind].gain + more)}
    assert adapt_shares(mix, richer)[kind] >= adapt_shares(mix, tallies)[kind] - 1e-9


def test_the_contract_holds_until_something_was_gained() -> None:
    mix = JobMix(improve=6, draft=1, adopt=2, ablate=0, tune=1, combine=0)
    assert start_shares(mix) == {JobKind.IMPROVE: 0.6, JobKind.DRAFT: 0.1, JobKind.ADOPT: 0.2, JobKind.TUNE: 0.1}
    assert adapt_shares(mix, {JobKind.IMPROVE: KindTally(50, 15_000, 0.0)}) == raise_to_floor(start_shares(mix))


def test_shares_follow_gain_per_second() -> None:
    same = {kind: KindTally(100, 30_000, 0.01) for kind in (JobKind.IMPROVE, JobKind.ADOPT)}
    mix = JobMix(improve=1, draft=0, adopt=1, ablate=0, tune=0, combine=0)
    assert adapt_shares(mix, same) == {JobKind.IMPROVE: 0.5, JobKind.ADOPT: 0.5}
    better = adapt_shares(mix, same | {JobKind.ADOPT: KindTally(100, 30_000, 0.04)})
    slower = adapt_shares(mix, same | {JobKind.ADOPT: KindTally(100, 120_000, 0.01)})
    assert better[JobKind.ADOPT] > 0.6 and slower[JobKind.ADOPT] < 0.4


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("project")
def test_of_two_processes_one_adapts_the_shares(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt_project, done = job_mix.adapt_project, list[str]()

    def adapt_beside_another(*given: Any) -> None:
        adapt_project(*given)
        done.append("one")
        with closing(Database(database.url.render_as_string(hide_password=False))) as other:
            job_mix.adapt_if_due(other)

    monkeypatch.setattr(job_mix, "FIRST", 0)
    monkeypatch.setattr(job_mix, "adapt_project", adapt_beside_another)
    job_mix.adapt_if_due(database)
    with database.read() as session:
        assert done == ["one"] and queries.list_shares(session, 1)
