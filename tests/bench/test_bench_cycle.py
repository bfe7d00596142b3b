"""The benchmark of cycles in a short form: no request fails, on either engine and with databases of two sizes."""

import pytest

from tests.bench import bench_cycle


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_cycles_of_clients_that_work_at_the_same_time_all_succeed(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_cycle, "THREADS", (2,))
    monkeypatch.setattr(bench_cycle, "TURNS", 2)
    monkeypatch.setattr(bench_cycle, "WARM_UP_SECONDS", 0.2)
    monkeypatch.setattr(bench_cycle, "SETTLE_SECONDS", 0.1)
    rows = list(bench_cycle.run(engine, (5, 40), seconds=1.0))
    tallies = [tally for row in rows for tally in row.tallies]
    assert [row.stored for row in rows] == [5, 40]
    assert len(tallies) == len(rows) * 2 * 2  # turns, clients
    assert all(tally.cycles for tally in tallies)
    assert not any(tally.failed for tally in tallies)
    assert [len(row.list_cells()) for row in rows] == [len(bench_cycle.HEADINGS)] * 2
