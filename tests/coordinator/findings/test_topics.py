"""Topics over HTTP, on both engines."""

from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.models import Experiment, Finding, Project
from shared.findings import Topic, TopicSummary
from shared.protocol import API_PREFIX, Page
from tests.coordinator.findings.conftest import Author
from tests.support.messages import make_proposal
from tests.support.swarm_data import History


def read(http: TestClient, slug: str) -> Topic:
    response = http.get(f"{API_PREFIX}/topics/tiny/{slug}")
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
    assert http.get(f"{API_PREFIX}/topics/tiny/nothing").status_code == 404


def test_topics_are_listed_by_their_newest_experiment(http: TestClient, author: Author) -> None:
    for axis in ("WIDTH", "DEPTH", "HEADS", "WIDTH"):
        author.write(f"try {axis}", axis=axis)
    first = Page[TopicSummary].model_validate_json(
        http.get(f"{API_PREFIX}/topics", params={"project": "tiny", "limit": 2}).content
    )
    assert [(one.slug, one.experiments) for one in first.items] == [("width", 2), ("heads", 1)]
    rest = http.get(f"{API_PREFIX}/topics", params={"project": "tiny", "cursor": first.next_cursor}).json()
    assert [one["slug"] for one in rest["items"]] == ["depth"] and rest["next_cursor"] is None


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
