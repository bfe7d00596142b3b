"""Topics over HTTP, on both engines."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.findings import topics
from coordinator.models import Experiment, Finding, Project
from coordinator.projects.service import create_project
from coordinator.records import progress
from coordinator.selection.context_pack import PackRequest, compose_pack
from shared.protocol import API_PREFIX, Page
from shared.topics import GainFates, Topic, TopicSummary
from tests.coordinator.findings.conftest import Author
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History


def read(http: TestClient, slug: str, project: str = "tiny") -> Topic:
    response = http.get(f"{API_PREFIX}/topics/{project}/{slug}")
    assert response.status_code == 200, response.text
    return Topic.model_validate_json(response.content)


def test_a_topic_holds_all_that_was_tried_along_an_axis(http: TestClient, author: Author) -> None:
    good = author.write("more", axis="WEIGHT_DECAY", value="0.4", metric=3.2)
    bad = author.write("too much", axis="weight decay", value="0.8", metric=3.4, volunteer="grace")
    failed = author.write("far too much", axis="Weight-Decay", value="8", metric=None)
    author.write("elsewhere", axis="DEPTH")
    topic = read(http, "weight-decay")
    assert [one.id for one in topic.findings_for] == [good]
    assert [one.id for one in topic.findings_against] == [failed, bad]
    assert {(one.finding_id, one.value) for one in topic.effects} == {(good, "0.4"), (bad, "0.8")}
    summary = topic.summary
    assert (summary.experiments, summary.improved, summary.worse, summary.failed) == (3, 1, 1, 1)
    together = [pool for pool in topic.pools if pool.hardware_class is None]
    assert [pool.experiments for pool in together] == [2] and together[0].between_sd > 0.05
    assert [one.value for one in topic.untested] == ["0.2", "0.566"]
    failed = author.write("far too wide", axis="WEIGHT_DECAY", value="0.2", metric=None)
    assert [one.value for one in read(http, "weight-decay").untested] == ["0.283", "0.566"], "0.2 was tried, and failed"
    assert http.get(f"{API_PREFIX}/topics/tiny/nothing").status_code == 404


def test_a_topic_tells_the_metric_at_each_value_and_what_other_projects_found(
    http: TestClient, database: Database, author: Author, tmp_path: Path
) -> None:
    author.write("WIDTH 64 -> 128", value="128", metric=3.2)
    author.write("WIDTH 64 -> 256", value="256", metric=3.1)
    for value, metric in (("0.05", 3.1), ("0.06", 3.05), ("0.07", 3.04)):  # each from the one before, as nobody says
        author.write(f"raise LR to {value}", axis="LR", value=value, metric=metric, on_newest="yes")
    assert [one.value for one in read(http, "lr").untested] == ["0.0817"], "the last one is the best"
    with database.read() as session:
        sha = session.scalars(select(Experiment.commit_sha).order_by(Experiment.id.desc())).first()
        asked = PackRequest(session.query(Project).one(), str(sha), HARDWARE.hardware_class, "", [])
        assert "> - LR at 0.0817: The best so far, 0.07, is the highest" in compose_pack(session, asked).text
    topic = read(http, "width")
    assert {one.old_value for one in topic.effects} == {"64"}
    assert [one.value for one in topic.levels] == [64, 128, 256] and topic.levels[0].mean == topic.levels[0].sd == 0
    assert 0 > topic.levels[1].mean > topic.levels[2].mean and topic.elsewhere == []
    assert [one.value for one in topic.untested] == ["512", "181"], "the value that the steps began from was tried, too"
    with database.write() as session:
        other = History(session, create_project(session, write_seed(tmp_path / "seed", name="other"))[0])
        worker = other.add_worker("joan-1", "joan")
        other.measure(worker, other.project.root_sha, 3.3)
        for value in ("96", "192"):
            proposal = make_proposal(f"WIDTH 64 -> {value}").model_copy(update={"axis": "Width", "value": value})
            made = other.add_experiment(worker, other.project.root_sha, 3.0, proposal)
        other.hardware = HARDWARE.model_copy(update={"cores": 4})
        more_cores = other.add_worker("joan-2", "joan")
        for sha, metric in ((other.project.root_sha, 3.3), (made.commit_sha, 3.0)):
            other.measure(more_cores, sha, metric)
    (elsewhere,) = read(http, "width").elsewhere
    assert (elsewhere.summary.project, elsewhere.summary.experiments, elsewhere.metric) == ("other", 2, "val_bpb")
    assert elsewhere.is_lower_better and [pool.experiments for pool in elsewhere.pools] == [2], "of three effects"
    assert len(read(http, "width", "other").effects) == 3
    page = http.get("/topics/tiny/width").text
    assert "val_bpb by value" in page and "64: the reference; 128: " in page and 'href="/topics/other/width"' in page
    assert ", 2 experiments" in page


@ON_ONE_ENGINE
def test_effects_are_taken_together_as_their_runs_tell_them(
    http: TestClient, database: Database, tmp_path: Path
) -> None:
    """Each experiment's own number says little against the little that is expected; nine that agree say much."""
    seed = write_seed(tmp_path / "seed", name="shy")
    contract = (seed / "swarm.toml").read_text().replace("effect_sd = 0.05", "effect_sd = 0.002")
    (seed / "swarm.toml").write_text(contract)
    with database.write() as session:
        history = History(session, create_project(session, seed)[0])
        worker = history.add_worker("ada-1", "ada")
        for _ in range(9):
            history.measure(worker, history.project.root_sha, 3.3)
        for _ in range(9):
            proposal = make_proposal("WIDTH 64 -> 96").model_copy(update={"axis": "WIDTH", "value": "96"})
            history.add_experiment(worker, history.project.root_sha, 3.28, proposal)
    topic = read(http, "width", "shy")
    assert all(-0.005 < one.mean < 0 for one in topic.effects), "each was drawn towards what was expected"
    (pool,) = (one for one in topic.pools if one.hardware_class is None)
    assert pool.mean == pytest.approx(-0.02, abs=0.0005) and 0.0015 < pool.sd < 0.003
    assert [(one.value, round(one.mean, 3)) for one in topic.levels] == [(64.0, 0.0), (96.0, -0.02)]


def test_topics_are_listed_by_their_newest_experiment(http: TestClient, author: Author) -> None:
    for axis in ("WIDTH", "DEPTH", "HEADS", "WIDTH"):
        author.write(f"try {axis}", axis=axis)
    first = Page[TopicSummary].model_validate_json(
        http.get(f"{API_PREFIX}/topics", params={"project": "tiny", "limit": 2}).content
    )
    assert [(one.slug, one.experiments) for one in first.items] == [("width", 2), ("heads", 1)]
    rest = http.get(f"{API_PREFIX}/topics", params={"project": "tiny", "cursor": first.next_cursor}).json()
    assert [one["slug"] for one in rest["items"]] == ["depth"] and rest["next_cursor"] is None


def test_a_topic_has_the_date_of_what_was_done_last(http: TestClient, database: Database, author: Author) -> None:
    for axis in ("WIDTH", "WIDTH", "DEPTH", "HEADS"):
        author.write(f"try {axis}", axis=axis)
    with database.write() as session:
        for experiment in session.scalars(select(Experiment)):
            year = {1: 2024, 2: 2021, 3: 2022}.get(experiment.id)
            experiment.done_at = datetime(year, 5, 3, tzinfo=UTC) if year else None

    def list_dates(**asked: str) -> list[tuple[str, str | None]]:
        items = http.get(f"{API_PREFIX}/topics", params={"project": "tiny"} | asked).json()["items"]
        return [(one["slug"], one["newest_at"] and one["newest_at"][:4]) for one in items]

    by_date = [("width", "2024"), ("depth", "2022")]
    assert list_dates() == [("heads", None), *by_date[::-1]] and list_dates(sort="done") == by_date
    progress.follow_runs(database)
    assert list_dates(sort="done") == by_date and list_dates(until="2023-01-01") == by_date[1:]


def test_a_follow_up_is_open_until_somebody_goes_on_from_it(
    http: TestClient, database: Database, author: Author
) -> None:
    taken = author.write("more", follow_ups="Try 0.8.")
    left = author.write("less", follow_ups="Try 0.1.")
    assert [one.finding_id for one in read(http, "width").follow_ups] == [left, taken]
    with database.write() as session:
        project = session.query(Project).one()
        history = History(session, project)
        parent = session.get_one(Experiment, session.get_one(Finding, taken).experiment_id)
        proposal = make_proposal("went on").model_copy(update={"axis": "WIDTH"})
        history.add_experiment(history.add_worker("ada-1"), parent.commit_sha, 3.2, proposal)
    assert [one.finding_id for one in read(http, "width").follow_ups] == [left]


def test_a_topic_says_what_became_of_gains_that_were_seen_once(
    http: TestClient, database: Database, author: Author
) -> None:
    lucky, real, unchecked = (author.write(f"try {number}", value=str(number), metric=3.2) for number in range(3))
    elsewhere = author.write("deeper", axis="DEPTH", metric=3.2)
    loss = author.write("less", metric=3.4)
    assert read(http, "width").gains == GainFates(seen=3, measured_again=0, held=0)
    assert "measured again" not in http.get("/topics/tiny/width").text
    author.measure(real, 3.2)
    author.measure(loss, 3.4)
    for finding in (lucky, elsewhere):
        for volunteer in ("grace", "joan"):
            author.measure(finding, 3.3, volunteer)
    assert read(http, "width").gains == GainFates(seen=3, measured_again=2, held=1)
    assert read(http, "depth").gains == GainFates(seen=1, measured_again=1, held=0)
    progress.follow_runs(database)
    assert read(http, "width").gains == GainFates(seen=3, measured_again=2, held=1), "as it is kept"
    assert "Of 3 gains seen in one run, 2 were measured again by others: 1 held." in http.get("/topics/tiny/width").text
    of_all = "Of 4 gains seen in one run, 3 were measured again by others: 1 held."
    assert of_all in http.get("/findings?project=tiny").text
    with database.read() as session:
        project = session.query(Project).one()
        sha = session.get_one(Experiment, session.get_one(Finding, unchecked).experiment_id).commit_sha
        name = session.get_one(Finding, unchecked).hardware_class
        packs = [
            compose_pack(session, PackRequest(project, sha, name, "width", [], with_findings=with_findings))
            for with_findings in (True, False)
        ]
    assert of_all in packs[0].text and of_all not in packs[1].text


def test_each_side_of_a_topic_has_its_newest_findings_up_to_a_limit(database: Database, author: Author) -> None:
    gains = [author.write(f"more {number}", value=str(number), metric=3.2) for number in range(3)]
    losses = [author.write("less", value="0.5", metric=3.4), author.write("much less", value="0.1", metric=None)]
    with database.read() as session:
        project = session.query(Project).one()
        topic = topics.view_topic(session, project, "width", most_each=2)
        assert [one.id for one in topic.findings_for] == [gains[2], gains[1]]
        assert [one.id for one in topic.findings_against] == losses[::-1] and topic.open_findings == []
        assert len(topic.effects) == 4 and topic.summary.experiments == 5
