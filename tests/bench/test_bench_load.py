"""The benches of load and of troubles work: short runs of both, whose ledgers agree."""

import pytest

from tests.bench import bench_chaos, bench_load

pytestmark = pytest.mark.acceptance


def test_a_short_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_load, "WINDOWS", 1)
    monkeypatch.setattr(bench_load, "SETTLE_SECONDS", 0.2)
    row = bench_load.run("sqlite", volunteers=4, minutes=0.06, tabs=2, speed=100)
    found = dict(zip(bench_load.HEADINGS, row, strict=True))
    assert found["failed"] == "0" and found["ledger"] == "agrees" and int(found["results"]) >= 1
    assert float(found["heartbeats/s"]) > 0 and float(found["p95 ms with tabs"]) > 0


def test_a_short_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_chaos, "TROUBLES", {"restore": bench_chaos.Swarm.move})
    row = bench_chaos.run("sqlite", minutes=0.0, workers=2)
    assert row[-1] == "agrees, whole" and int(row[2]) >= 2 * bench_chaos.RESULTS_BETWEEN
