"""The typed client."""

import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from coordinator.app import create_app
from coordinator.settings import CoordinatorSettings
from shared.protocol import Page
from swarm import Client, CoordinatorError
from swarm.listing import CommandError, Listing
from tests.support.databases import SqliteFolder
from tests.support.servers import serve
from tests.support.tiny_project import serve_folder
from tests.support.tokens import create_token


def test_it_returns_typed_models(url: str) -> None:
    with Client(url) as client:
        newest = client.list_experiments("tiny")[0]
        detail = client.get_experiment(newest.id)
        assert detail.title == newest.title and detail.runs
        assert client.list_projects()[0].name == "tiny" and client.list_branches("tiny")[0].name == "baseline"
        assert client.list_runs("tiny", limit=2)[0].id > client.list_runs("tiny", limit=2)[1].id
        assert client.get_evidence(newest.id).sha == newest.sha
        assert client.list_volunteers()[0].workers == 1 and client.list_hardware_classes("tiny")[0].runs > 12
        assert client.list_findings("tiny", 3)[0].project == "tiny"


def test_lists_go_on_to_their_end_or_to_a_limit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.listing.MAX_LIMIT", 5)  # several pages without many rows
    with Client(url) as client:
        every = client.list_experiments("tiny")
        ids = [experiment.id for experiment in every]
        assert ids == sorted(set(ids), reverse=True) and len(ids) == 12
        assert [experiment.id for experiment in every] == ids, "one may iterate again"
        assert [one.id for one in client.list_experiments("tiny", 7)] == ids[:7]
        assert every[3].id == ids[3] and [one.id for one in every[::-1]] == ids[::-1]
        with pytest.raises(IndexError):
            every[12]
        assert len(list(client.list_runs("tiny"))) >= 15
        assert list(client.list_lineage(client.get_experiment(12).sha))[-1].parent_sha is None


def test_filters_and_orders_are_those_of_the_api(url: str) -> None:
    with Client(url) as client:
        best = [one.posterior.metric_mean for one in client.list_experiments("tiny", sort="best") if one.posterior]
        assert best == sorted(best) and len(best) > 5
        assert {one.volunteer for one in client.list_findings("tiny", volunteer="ada")} == {"ada"}
        assert all(len(curve.loss) <= 7 for curve in client.list_curves("tiny", points=7))
        assert client.list_topics("tiny", sort="experiments")[0].experiments > 1
        assert client.list_projects(mode="running") and not client.list_projects(mode="archived")
        with pytest.raises(CoordinatorError, match="Did you mean sort"):
            list(client.list_experiments("tiny", sortt="best"))
        with pytest.raises(CoordinatorError, match=r"must be a number|finite"):
            list(client.list_experiments("tiny", effect_above="nan"))


class Measured(BaseModel):
    name: str
    values: dict[str, float]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_list_becomes_a_data_frame(url: str, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    other = {"pandas": "polars", "polars": "pandas"}[library]
    monkeypatch.setitem(sys.modules, other, None)
    with Client(url) as client:
        frame = client.list_experiments("tiny").to_frame()
        assert type(frame).__module__.startswith(library) and len(frame) == 12
        assert {"id", "posterior.effect_mean", "done_at"} <= set(frame.columns)
        assert list(frame["id"]) == list(range(12, 0, -1)) and str(frame["posterior.verdict"][1]) != "Verdict.WORSE"
        assert len(client.list_runs("tiny", 3).to_frame()["seconds.training"]) == 3
        nothing = client.list_experiments("tiny", text="nothing-like-this").to_frame()
        assert len(nothing) == 0 and "posterior.effect_mean" in nothing.columns
        two = [Measured(name=name, values={name: 1.5}) for name in ("first", "second")]
        several = Listing(Measured, lambda size, cursor: Page(items=two, next_cursor=None)).to_frame()
        assert [cell[name] for name, cell in zip(several["name"], several["values"], strict=True)] == [1.5, 1.5]
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(CommandError, match="pip install pandas"):
            client.list_projects().to_frame()


def test_what_a_newer_coordinator_adds_is_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "api" / "v1"
    folder.mkdir(parents=True)
    (folder / "volunteers").write_text(
        '{"items":[{"id":1,"name":"ada","role":"volunteer","workers":1,"runs":2,"experiments":3,'
        '"created_at":"2026-01-01T00:00:00Z","new":{"field":1}}],"next_cursor":null,"also":"new"}'
    )
    with serve_folder(tmp_path) as address, Client(address) as client:
        assert client.list_volunteers()[0].name == "ada"
        with pytest.raises(CoordinatorError, match="does not answer like a coordinator"):
            list(client.list_projects())


def test_a_closed_swarm_is_read_with_a_token(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    settings = CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path), public_reading=False)
    app = create_app(settings)
    with serve(app) as server:
        with app.state.database.write() as session:
            token = SecretStr(create_token(session, "ada", "test"))
        with Client(server.url) as client, pytest.raises(CoordinatorError, match="A valid token is needed"):
            list(client.list_projects())
        with Client(server.url, token) as client:
            assert list(client.list_projects()) == []
