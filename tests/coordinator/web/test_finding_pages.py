"""The pages of findings and topics over HTTP: their contents, links, and hostile text in them."""

import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.models import ContextPack, Experiment, Finding, Project
from shared.findings import FindingDraft
from shared.workers import Role
from tests.coordinator.web.test_pages import get_page
from tests.support.accounts import browse_as
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import make_proposal
from tests.support.swarm_data import HOSTILE_MARKDOWN, HOSTILE_TITLE, History

pytestmark = ON_ONE_ENGINE  # queries of what these pages show are tested on both beside them


@pytest.fixture
def past(database: Database, project: str) -> list[int]:
    """Findings: a gain that grace measured again as less of one, a hostile one that read it, a crash."""
    with database.write() as session:
        row = session.query(Project).one()
        history = History(session, row)
        ada, grace = history.add_worker("ada-1"), history.add_worker("grace-1", "grace")
        for worker in (ada, grace):
            for metric in (3.297, 3.3, 3.303):
                history.measure(worker, row.root_sha, metric)
        wider = make_proposal("WIDTH to 128").model_copy(update={"axis": "WIDTH", "value": "128"})
        good = history.add_experiment(
            ada, row.root_sha, 3.2, wider, FindingDraft(claim="A wider model helps", follow_ups="Try 256.", agent="a")
        )
        history.measure(grace, good.commit_sha, 3.215)
        hostile = FindingDraft(
            claim=HOSTILE_TITLE, mechanism=HOSTILE_MARKDOWN, caveats=HOSTILE_MARKDOWN, agent="<i>agent</i>"
        )
        wider = make_proposal(HOSTILE_TITLE).model_copy(update={"axis": "width", "value": "512"})
        second = history.add_experiment(grace, row.root_sha, 3.4, wider, hostile)
        crashed = history.add_experiment(ada, row.root_sha, None, make_proposal("crashes"))
        numbers = {one.experiment_id: one.id for one in session.query(Finding)}
        lease_id = session.get_one(Experiment, second.id).lease_id
        session.add(ContextPack(lease_id=lease_id, text=f"> - {HOSTILE_TITLE}", findings=[numbers[good.id]]))
        return [numbers[one.id] for one in (good, second, crashed)]


def test_a_findings_page_says_what_came_since(http: TestClient, past: list[int]) -> None:
    page = get_page(http, f"/findings/{past[0]}")
    assert "A wider model helps" in page and "Weakened by run" in page and "grace-1" in page
    assert "at that time" in page and "2 by 2 volunteers" in page
    assert '<span class="line added">+' in page and "/topics/tiny/width" in page
    curves = json.loads(page.split('id="loss-curves">')[1].split("</script>")[0])
    assert [curve["name"].split(",")[0] for curve in curves] == ["parent (baseline)", "run 7", "run 8"]
    document = http.get(f"/findings/{past[0]}.json").json()
    assert document["words"] == http.get(f"/api/v1/findings/{past[0]}").json()["words"]
    get_page(http, "/findings/999", status=404)
    get_page(http, f"/findings/{past[0]}?version=2", status=404)


def test_a_finding_is_retracted_and_restored_on_its_page(app: FastAPI, http: TestClient, past: list[int]) -> None:
    address = f"/findings/{past[0]}"
    moderator, author, other = browse_as(app, "mod", Role.MODERATOR), browse_as(app, "ada"), browse_as(app, "grace")
    assert [">Retract</button>" in one.get(address).text for one in (http, moderator, author, other)] == [
        False, True, True, False
    ]  # fmt: skip
    moderator.post(f"{address}/retraction", reason="made up")
    assert "<strong>Retracted.</strong>" in http.get(address).text
    assert moderator.get("/audit").text.count("retract-finding")
    assert [">Restore</button>" in one.get(address).text for one in (moderator, author)] == [True, False]
    author.post(f"{address}/restoration", reason="I know better")
    assert "<strong>Retracted.</strong>" in http.get(address).text, "only a moderator takes a moderator's back"
    moderator.post(f"{address}/restoration", reason="it repeats")
    assert "<strong>Retracted.</strong>" not in http.get(address).text


def test_findings_are_searched_from_a_page(http: TestClient, past: list[int]) -> None:
    newest = get_page(http, "/findings?project=tiny")
    assert all(f'href="/findings/{number}"' in newest for number in past)
    found = get_page(http, "/findings?project=tiny&q=wider+model")
    assert f'href="/findings/{past[0]}"' in found and f'href="/findings/{past[2]}"' not in found
    assert "/findings?project=tiny&amp;q=wider+model&amp;verdict=improved" in found
    nothing = get_page(http, "/findings?project=tiny&q=wider+model&failure=driver")
    assert "No finding matches" in nothing and "best first" not in nothing and "The only match" not in nothing
    narrowed = get_page(http, "/findings?project=tiny&verdict=worse")
    assert f'href="/findings/{past[1]}"' in narrowed and f'href="/findings/{past[0]}"' not in narrowed
    assert "/findings?project=tiny&amp;verdict=worse&amp;failure=slower" in narrowed
    crashed = get_page(http, "/findings?project=tiny&failure=crashed")
    assert f'href="/findings/{past[2]}"' in crashed and f'href="/findings/{past[1]}"' not in crashed
    get_page(http, "/findings?project=none", status=404)


def test_a_topic_is_drawn_with_what_speaks_for_and_against_it(http: TestClient, past: list[int]) -> None:
    assert "/topics/tiny/width" in get_page(http, "/projects/tiny/topics")
    page = get_page(http, "/topics/tiny/width")
    assert page.count('<tr class="improved">') == page.count('<tr class="worse">') == 1
    assert page.count('<tr class="pool">') == 1 and "gains are left of the line" in page
    assert page.index("A wider model helps") < page.index("&lt;script&gt;", page.index("<h2>Against"))
    assert "Try 256." in page and "beside the best so far" in page
    assert "<<<<" not in page and "Nothing of this axis is shown" not in page
    assert http.get("/topics/tiny/width.json").json()["summary"]["experiments"] == 2
    get_page(http, "/topics/tiny/none", status=404)


def test_what_an_agent_read_stands_on_its_experiments_page(http: TestClient, past: list[int]) -> None:
    experiment_id = http.get(f"/api/v1/findings/{past[1]}").json()["summary"]["experiment_id"]
    page = get_page(http, f"/experiments/{experiment_id}")
    assert "It cites 1 finding" in page and f'href="/findings/{past[0]}"' in page


def test_nothing_that_a_finding_says_is_obeyed(http: TestClient, past: list[int]) -> None:
    experiment_id = http.get(f"/api/v1/findings/{past[1]}").json()["summary"]["experiment_id"]
    for path in (
        f"/findings/{past[1]}", "/findings?project=tiny", "/findings?project=tiny&q=script+window",
        "/topics/tiny/width", f"/experiments/{experiment_id}",
    ):  # fmt: skip
        page = get_page(http, path)
        assert "&lt;script&gt;" in page
        assert "<script>window.hacked" not in page and "<img" not in page and 'href="javascript' not in page
