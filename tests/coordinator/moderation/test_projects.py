"""Maintainers change the settings of projects: versions with a preview, which steer the jobs. On both engines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from coordinator.cli import app as command_line
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from shared.experiments import JobKind
from shared.leases import ResultUpload
from shared.workers import Role
from tests.support.accounts import browse_as, code_of, make_person
from tests.support.messages import make_run
from tests.support.seeds import write_seed
from tests.support.volunteers import MiniWorker

PATH = "/projects/tiny/settings"
WHY = {"reason": "to see what it does"}


class Case:
    """A project, a maintainer, and a worker of ada's that measured the seed."""

    def __init__(self, database: Database, http: TestClient, worker: MiniWorker) -> None:
        self.worker, self.http = worker, http
        self.boss = make_person(database, http, "boss", Role.MAINTAINER)
        worker.measure_root(3.3)

    def change(self, **values: object) -> httpx.Response:
        return self.boss.post(PATH, WHY | values)

    def preview(self, **values: object) -> dict[str, Any]:
        found: dict[str, Any] = self.boss.post(f"{PATH}/preview", values).json()
        return found

    def versions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get(f"/api/v1{PATH}").json()["items"]
        return found

    def refusal(self) -> str:
        """Why the worker gets no job; empty if it gets one."""
        reply = self.worker.claim()
        if reply.lease is not None:
            self.worker.release(reply.lease)
        return "" if reply.lease is not None else reply.reason


@pytest.fixture
def case(database: Database, http: TestClient, worker: MiniWorker) -> Case:
    return Case(database, http, worker)


def test_a_change_is_a_version_that_is_shown_restored_and_undone(case: Case) -> None:
    (first,) = case.versions()
    assert (first["version"], first["by"], first["mode"]) == (0, "the contract", "running")
    done = case.change(title="A larger question", jobs={"tune": 2}, notice="Be kind.\x1b[31m")
    assert done.json()["after"] == {"title": "A larger question", "jobs.tune": 2, "notice": "Be kind.[31m"}
    view = case.http.get("/api/v1/projects/tiny").json()
    assert (view["title"], view["notice"]) == ("A larger question", "Be kind.[31m")
    newest, oldest = case.versions()
    assert (newest["version"], newest["by"], newest["reason"]) == (1, "boss", WHY["reason"])
    assert oldest["title"] == first["title"], "the contract's title is kept"
    assert code_of(case.change(notice="Be kind.[31m")) == (409, "nothing-changes")
    assert code_of(case.change(weight=2, version=0)) == (409, "settings-outdated")
    assert case.boss.post(f"/audit/{done.json()['id']}/undo", WHY).status_code == 201
    assert case.versions()[0] | {"version": 0} == oldest | {
        "version": 0, "by": "boss", "reason": WHY["reason"], "at": case.versions()[0]["at"]
    }  # fmt: skip
    assert case.boss.post(f"{PATH}/restoration", WHY | {"version": 1}).status_code == 200
    assert case.versions()[0]["jobs"]["tune"] == 2 and case.versions()[0]["version"] == 3
    assert code_of(case.boss.post(f"{PATH}/restoration", WHY | {"version": 9})) == (404, "not-found")
    assert code_of(case.change(jobs={"confirm": 1}))[0] == 422, "no share of the mix"
    off = dict.fromkeys((kind.value for kind in JobKind if kind.makes_experiment), 0)
    assert code_of(case.change(jobs=off)) == (422, "settings-invalid")


def test_modes_decide_what_jobs_are_given(case: Case) -> None:
    held = case.worker.claim_job()
    case.change(mode="paused", notice="We mend the data.")
    assert case.refusal() == "A maintainer has paused the project tiny. We mend the data."
    assert case.worker.release(held).status_code == 200, "what was given goes on"
    case.change(mode="draining", notice="")
    assert "lets this project run out" in case.refusal()
    case.change(mode="archived")
    assert code_of(case.boss.post("/projects/tiny/branches", {"name": "side", "theme": "x"})) == (
        409,
        "project-archived",
    )
    assert "archived" in case.refusal()
    case.change(mode="running")
    assert case.refusal() == ""


def test_a_draining_project_is_measured_until_nothing_waits(case: Case, make_worker: Callable[..., MiniWorker]) -> None:
    begun, _ = case.worker.experiment("LR = 0.5\n", 3.25)
    case.change(mode="draining")
    for name in ("bob", "eve"):
        checker = make_worker("w2", name)
        checker.measure_root(3.3)
        lease = checker.claim_job()
        assert lease.kind is JobKind.REPLICATE and lease.base.sha != begun.base.sha
        checker.deliver(lease, ResultUpload(run=make_run(lease.base.sha, 3.25)))
    assert "nothing waits to be measured" in checker.claim().reason


def test_who_may_join_is_held_to_at_the_claim(case: Case) -> None:
    case.change(joining="members", members=["zoe", "bob"])
    assert "Only members" in case.refusal()
    case.change(members=["ada"])
    assert case.refusal() == ""
    assert code_of(case.change(members=[])) == (422, "settings-invalid")
    case.change(joining="approved")
    assert case.refusal() == "", "ada's account was made on the command line"


def test_the_fleet_is_shared_by_weight(case: Case, database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "other", "other"))
    assert case.change(weight=0).status_code == 200
    assert case.worker.claim_job().project == "other", "nobody asked for tiny"
    assert case.worker.claim_job(project="tiny").project == "tiny"
    said = case.preview(weight=3)["consequences"]
    assert said == [
        "Of workers that ask for no project in particular 0% are to be on this one now, and 75% then."
    ]  # fmt: skip


def test_a_preview_says_what_follows_and_changes_nothing(case: Case) -> None:
    case.worker.claim_job()
    found = case.preview(mode="paused", joining="members", members=["bob"], jobs={"combine": 0})
    assert found["changes"][:2] == [
        {"name": "mode", "before": "running", "after": "paused"},
        {"name": "joining", "before": "everybody", "after": "members"},
    ]
    said = " ".join(found["consequences"])
    assert "1 job under way may end" in said and "get no job any more: ada." in said and "combine" in said
    assert [one["version"] for one in case.versions()] == [0]


def test_the_command_line_does_the_same(case: Case, database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)

    def run(*given: str) -> tuple[int, str]:
        done = CliRunner().invoke(command_line, ["project", *given], env={"SWARM_DATABASE_URL": url})
        return done.exit_code, done.output

    assert run("set", "tiny", "--share", "tune=2", "--preview")[1].startswith("jobs.tune: 0.25 -> 2.0\nKinds of")
    assert run("set", "tiny", "--mode", "paused")[0] == 1, "without a reason"
    code, said = run("set", "tiny", "--share", "tune=much", "--reason", "why not")
    assert code == 1 and "jobs tune: must be a number" in said
    assert "mode: running -> paused" in run("set", "tiny", "--mode", "paused", "--reason", "the disk is full")[1]
    assert "paused" in case.refusal()
    assert "mode: paused -> running" in run("restore", "tiny", "0", "--reason", "there is room again")[1]
    assert [line.split()[0] for line in run("settings", "tiny")[1].splitlines()] == ["2", "1", "0"]


def test_the_page_previews_before_it_saves(case: Case, app: FastAPI) -> None:
    del case
    stranger, boss = browse_as(app, "bob"), browse_as(app, "boss")
    assert '<form class="settings"' not in stranger.get(PATH).text
    page = boss.get(PATH).text
    assert page.count('type="number"') == 10
    fields: dict[str, object] = {
        "title": "A <small> question", "notice": "", "mode": "paused", "weight": "2", "joining": "members",
        "members": "ada, bob\nzoe", "version": "0", "improve": "2", "draft": "0.5", "adopt": "0.5", "ablate": "0.25",
        "tune": "1", "combine": "3.5", "replicate": "0.5", "control": "0.5", "promote": "0.5",
    }  # fmt: skip
    previewed = boss.post(f"{PATH}/preview", **fields).text
    assert "A &lt;small&gt; question" in previewed and "No new job is given" in previewed
    assert "ada bob zoe" in previewed and "Save these settings" in previewed
    assert "Version 0" in boss.get(PATH).text, "nothing is saved"
    wrong = boss.post(f"{PATH}/preview", **(fields | {"members": "no body!"}))
    assert wrong.status_code == 422 and "Members are names of accounts" in wrong.text
    assert "no body!</textarea>" in wrong.text, "it is there to be mended"
    assert "say why" in boss.post(PATH, **fields).text
    boss.post(PATH, **fields, reason="we look at it")
    shown = boss.get(PATH).text
    assert "The settings are saved" in shown and "Version 1" in shown and "we look at it" in shown
    assert 'value="A &lt;small&gt; question"' in shown and "<strong>Paused.</strong>" in stranger.get(PATH).text
    late = boss.post(PATH, **(fields | {"title": "Another question", "reason": "I know better"}))
    assert late.status_code == 409 and "The settings were changed meanwhile" in late.text
    assert (
        'value="Another question"' in late.text
        and 'value="I know better"' in late.text
        and "zoe</textarea>" in late.text
    )
    assert "Another question" not in boss.get(PATH).text, "who comes second overwrites nothing"
    again = boss.post(
        f"{PATH}/preview", **(fields | {"title": "Another question", "version": "1", "reason": "I know better"})
    )
    assert "<bdi>A &lt;small&gt; question</bdi> → <bdi>Another question</bdi>" in again.text
    assert 'value="running" checked' in boss.get(f"{PATH}?version=0").text
