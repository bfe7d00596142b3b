"""The pages over HTTP: their contents, links and errors."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.models import Project
from coordinator.projects.service import create_project
from coordinator.records.progress import follow_runs
from coordinator.web.project_page import find_changes, make_parts
from shared.protocol import Problem
from shared.records import ExperimentDetail
from shared.runs import DeviceKind, Hardware, RunOutcome
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import HOSTILE_TITLE, History, crash

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
GPU = Hardware(kind=DeviceKind.CUDA, model="NVIDIA H100", memory_mib=81_559, cores=1, torch_version="2.11")


def get_page(http: TestClient, path: str, status: int = 200) -> str:
    response = http.get(path, headers=BROWSER)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    return response.text


@pytest.fixture
def past(database: Database, project: str) -> list[int]:
    """A measured root and three experiments: an improvement, a hostile title, a crash. Returns their ids."""
    with database.write() as session:
        row = session.query(Project).filter_by(name=project).one()
        history = History(session, row)
        worker = history.add_worker()
        history.measure(worker, row.root_sha, 3.3)
        better = history.add_experiment(worker, row.root_sha, 3.2, make_proposal("WIDTH 96 → 128"))
        hostile = history.add_experiment(worker, better.commit_sha, 3.4, make_proposal(HOSTILE_TITLE))
        crashed = history.add_experiment(worker, better.commit_sha, None, make_proposal("DEPTH 4 → 9"), **crash())
        return [better.id, hostile.id, crashed.id]


@ON_ONE_ENGINE
def test_without_a_project_it_says_how_to_make_one(http: TestClient) -> None:
    assert "swarm-coordinator create-project" in get_page(http, "/")


@ON_ONE_ENGINE
def test_a_project_without_runs_waits_for_its_baseline(http: TestClient, database: Database, project: str) -> None:
    assert "The baseline is not measured yet" in get_page(http, "/")
    page = get_page(http, "/projects/tiny")
    assert "The baseline is not measured yet" in page and "No worker is on this project" in page
    assert "No run yet" in page and "0 runs" not in page
    with database.write() as session:
        row = session.query(Project).one()
        history = History(session, row)
        history.add_lease(history.add_worker("cellar"), row.root_sha)
    page = get_page(http, "/projects/tiny")
    assert "The baseline is being measured" in page and "cellar" in page


@ON_ONE_ENGINE
def test_each_list_of_a_new_project_says_how_it_begins(http: TestClient, project: str) -> None:
    of_project = [f"/projects/{project}/{name}" for name in ("experiments", "topics", "tree", "digests", "workers")]
    for path in ("/findings", "/workers", "/leaderboard", *of_project):
        main = get_page(http, path).partition("<main")[2]
        assert '<a href="/join">' in main and "a machine" in main, path
    assert '<a href="/join">' not in get_page(http, of_project[0] + "?text=none").partition("<main")[2], "none fits"


@ON_ONE_ENGINE
def test_a_lucky_run_is_leading_and_never_best(http: TestClient, past: list[int]) -> None:
    page = get_page(http, "/projects/tiny")
    assert "3.2010 ± 0.0050," in page, "3.2 was measured; the posterior leans a little on the parent's 3.3"
    assert "not verified yet" in page and "one run is no replication" in page
    words = re.sub(r"<script.*?</script>|best of .*? runs", "", page.lower(), flags=re.DOTALL)
    assert "best" not in words, "but for marks of several runs"
    front = get_page(http, "/")
    assert "none yet" in front and "3.2010 ± 0.0050," in front and "provisional" in front


@ON_ONE_ENGINE
def test_the_experiment_that_leads_is_the_one_with_the_lowest_posterior(http: TestClient, past: list[int]) -> None:
    page = get_page(http, "/projects/tiny")
    summary, rows = page.split('id="summary"')[1].split("</dl>")[0], page.split('id="experiment-rows"')[1]
    assert f'href="/experiments/{past[0]}"' in summary and "WIDTH 96" in summary
    gain = "−0.0980 ± 0.0070"
    assert gain in summary and gain in rows, "against the seed, its parent: the effect, and no second number"


@ON_ONE_ENGINE
def test_experiments_stand_newest_first_with_what_came_of_them(http: TestClient, past: list[int]) -> None:
    rows = get_page(http, "/projects/tiny").split('id="experiment-rows"')[1].split("</tr>")
    for number, row in zip(reversed(past), rows, strict=False):
        assert f'<a href="/experiments/{number}">' in row
    assert "crashed" in rows[0] and "±" not in rows[0]
    assert "worse" in rows[1] and f'<a href="/experiments/{past[0]}">#{past[0]}</a>' in rows[1]
    assert "improved" in rows[2] and "provisional" in rows[2] and "baseline" in rows[2]


def test_older_experiments_are_one_link_away(http: TestClient, database: Database, project: str) -> None:
    with database.write() as session:
        row = session.query(Project).one()
        history = History(session, row)
        worker = history.add_worker()
        for number in range(53):
            history.add_experiment(worker, row.root_sha, 3.3 - number / 100, make_proposal(f"try {number}"))
    first = get_page(http, "/projects/tiny")
    assert first.count("<tr data-key=") == 25
    link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    older = get_page(http, link)
    assert ">try 27<" in older and ">try 28<" not in older and 'rel="next"' in older


def test_hardware_classes_are_not_mixed(http: TestClient, database: Database, past: list[int]) -> None:
    with database.write() as session:
        row = session.query(Project).one()
        history = History(session, row)
        history.add_experiment(history.add_worker("gpu"), row.root_sha, 2.1777, make_proposal("ON A GPU"), hardware=GPU)
    usual = get_page(http, "/projects/tiny")
    assert "ON A GPU" not in usual and "2.1777" not in usual
    link = next(part for part in usual.split('href="?')[1:] if "H100" in part).split('"')[0]
    other = get_page(http, f"/projects/tiny?{link}")
    assert "ON A GPU" in other and "2.1777" in other and "WIDTH 96" not in other
    assert get_page(http, "/projects/tiny?hardware_class=none+such").count("<tr data-key=") == 0


def test_pages_name_the_classes_with_most_runs_and_the_chosen_one(
    http: TestClient, database: Database, past: list[int]
) -> None:
    """Strangers can invent hardware, and each of its classes is a link on three pages."""
    with database.write() as session:
        row, history = session.query(Project).one(), History(session, session.query(Project).one())
        worker = history.add_worker("gpu")
        for number in range(10, 30):
            made_up = GPU.model_copy(update={"model": f"made up {number}"})
            history.add_experiment(worker, row.root_sha, 2.1, make_proposal(f"ON {number}"), hardware=made_up)
    last = quote(made_up.hardware_class)
    for page in ("", "/tree", "/importance"):
        usual, chosen = (get_page(http, f"/projects/tiny{page}{query}") for query in ("", f"?hardware_class={last}"))
        links = [text.split('class="classes"')[1].split("</nav>")[0] for text in (usual, chosen)]
        assert [one.count("?hardware_class=") for one in links] == [12, 13] and all(">all 21<" in one for one in links)
        assert last not in links[0] and last in links[1]


def test_the_front_page_shows_all_projects(http: TestClient, database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        for name in ("first", "second"):
            create_project(session, write_seed(tmp_path / name, name))
    front = get_page(http, "/")
    assert 'href="/projects/first"' in front and 'href="/projects/second"' in front
    assert "swarm-worker login --new YOUR-NAME --coordinator http://testserver &amp;&amp; swarm-worker --gpu 0" in front
    assert 'id="join-command" tabindex="0" role="region" aria-label="Command to join"' in front


@ON_ONE_ENGINE
def test_header_line_and_milestones_agree(http: TestClient, database: Database, past: list[int]) -> None:
    """The leader's metric is one number, wherever it is shown."""
    plot = http.get("/projects/tiny/plot").json()
    assert plot["total"] == len(plot["best"]) == 4 and plot["kinds"] == "birf"
    assert [(marks, f"{value:.4f}") for marks, value in plot["leading"]] == [(1, "3.3000"), (3, "3.2010")]
    follow_runs(database)
    assert http.get("/projects/tiny/plot").json() == plot
    page = get_page(http, "/projects/tiny")
    assert "All 4 runs" in page and 'class="leader" d="M' in page, "without scripts it is an SVG"
    front = get_page(http, "/")
    assert "over all 4 runs" in front
    milestones = front.split('id="milestones"')[1]
    assert f'href="/experiments/{past[0]}"' in milestones and "3.2010 ± 0.0050" in milestones
    zoomed = get_page(http, "/projects/tiny?first=2&last=3")
    assert "Runs 2 to 3 of 4" in zoomed
    assert re.findall(r'x-tick"[^>]*>([^<]+)<', zoomed) == ["2", "3"], "no part of a run"
    assert http.get("/projects/tiny/plot?first=2&last=3").json()["runs"] == plot["runs"][1:3]


def test_a_stream_tells_only_what_differs() -> None:
    rows = {"2": "<td>two</td>", "1": "<td>one</td>"}
    plot = {"first": 1, "width": 1, "total": 2, "best": [3.2, 3.1], "kinds": "rr", "leading": [3.2, 3.1]}
    old = make_parts({"summary": "a", "now": "b"}, rows, plot)
    newer = plot | {"total": 3, "best": [3.2, 3.1, 3.0], "kinds": "rri", "leading": [3.2, 3.1, 3.1]}
    new = make_parts({"summary": "a", "now": "c"}, {"3": "<td>three</td>"} | rows, newer)
    changes = find_changes(old, new)
    assert changes["regions"] == {"now": "c"}
    assert changes["rows"] == {"keys": ["3", "2", "1"], "changed": {"3": "<td>three</td>"}}
    assert (changes["plot"]["skipped"], changes["plot"]["best"], changes["plot"]["kinds"]) == (2, [3.0], "i")
    assert changes["plot"]["leading"] == [[1, 3.1]]
    assert find_changes(None, new)["plot"]["skipped"] == 0
    assert find_changes(new, new) == {"state": new.state}


@ON_ONE_ENGINE
def test_an_experiment_whole(http: TestClient, past: list[int]) -> None:
    page = get_page(http, f"/experiments/{past[0]}")
    for words in ("A larger step learns more", "Drawn by Thompson sampling", "No change beyond the noise", ">−0.01<"):
        assert words in page
    assert '<span class="line added">+' in page and "bubblewrap" in page and "not verified yet" in page
    assert '"is_parent": true' in page and "One run; see the numbers." in page


@ON_ONE_ENGINE
def test_a_failure_says_how_it_failed(http: TestClient, past: list[int]) -> None:
    page = get_page(http, f"/experiments/{past[2]}")
    for words in ("shapes cannot be multiplied", "train.py:118 in forward", "no measurement"):
        assert words in page
    assert "<script>window.hacked" not in page, "neither the log nor the title is markup"


@ON_ONE_ENGINE
def test_hostile_text_is_escaped_everywhere(http: TestClient, past: list[int]) -> None:
    for path in ("/projects/tiny", f"/experiments/{past[1]}"):
        page = get_page(http, path)
        assert "&lt;script&gt;window.hacked=1" in page
        assert "<script>window.hacked" not in page and "<img" not in page


@ON_ONE_ENGINE
def test_each_page_has_a_document_of_the_same(http: TestClient, past: list[int]) -> None:
    document = http.get(f"/experiments/{past[0]}.json")
    assert document.json() == http.get(f"/api/v1/experiments/{past[0]}").json()
    assert ExperimentDetail.model_validate_json(document.content).title == "WIDTH 96 → 128"
    assert http.get("/projects/tiny.json").json() == http.get("/api/v1/projects/tiny").json()


@ON_ONE_ENGINE
def test_a_run_is_shown_with_its_experiment_or_alone(http: TestClient, past: list[int]) -> None:
    detail = http.get(f"/experiments/{past[0]}.json").json()
    run_id = detail["runs"][0]["id"]
    response = http.get(f"/runs/{run_id}", follow_redirects=False)
    assert response.headers["location"] == f"/experiments/{past[0]}#run-{run_id}"
    assert "of the baseline" in get_page(http, "/runs/1")
    get_page(http, "/runs/999", status=404)


@pytest.mark.parametrize("path", ["/nothing", "/experiments/99", "/projects/none", "/problems/none"])
@ON_ONE_ENGINE
def test_what_is_not_there_is_a_page_for_people_and_a_document_for_programs(
    http: TestClient, project: str, path: str
) -> None:
    assert ">front page<" in get_page(http, path, status=404)
    response = http.get(path)
    assert response.status_code == 404
    assert Problem.model_validate_json(response.content).code == "not-found"


@ON_ONE_ENGINE
def test_the_api_answers_documents_even_to_browsers(http: TestClient, project: str) -> None:
    for path in ("/api/v1/experiments/99", "/experiments/99.json"):
        assert http.get(path, headers=BROWSER).headers["content-type"] == "application/problem+json"


@ON_ONE_ENGINE
@pytest.mark.parametrize("kind", ["experiments", "runs", "findings"])
def test_an_id_beyond_any_row_is_a_mistake_of_the_caller(http: TestClient, project: str, kind: str) -> None:
    assert http.get(f"/api/v1/{kind}/99999999999999999999").status_code == 422


@pytest.mark.parametrize("path", ["/experiments/99999999999999999999", "/experiments/x", "/projects/tiny?cursor=x"])
@ON_ONE_ENGINE
def test_an_address_that_cannot_be_is_a_mistake_of_the_caller(http: TestClient, project: str, path: str) -> None:
    get_page(http, path, status=422)


@ON_ONE_ENGINE
def test_how_a_run_may_end_all_have_a_face(http: TestClient, database: Database, project: str) -> None:
    failures = [outcome for outcome in RunOutcome if outcome is not RunOutcome.OK]
    with database.write() as session:
        row = session.query(Project).one()
        history = History(session, row)
        worker = history.add_worker()
        for outcome in failures:
            how = {"outcome": outcome, "reason": "because", "hopeless_at": 0.5}
            history.add_experiment(worker, row.root_sha, None, make_proposal(), **how)
    page = get_page(http, "/projects/tiny")
    for outcome in failures:
        assert f'<span class="mark failed">{outcome.replace("_", " ")}</span>' in page


@ON_ONE_ENGINE
def test_a_run_says_which_limits_held(http: TestClient, database: Database, project: str) -> None:
    with database.write() as session:
        row = session.query(Project).one()
        history = History(session, row)
        worker = history.add_worker()
        first, second = (
            history.add_experiment(worker, row.root_sha, 3.0, make_proposal(), limits=limits).id
            for limits in ([], ["system_calls_filtered", "memory_watched_by_worker"])
        )
    assert "system calls filtered, memory watched by worker" in get_page(http, f"/experiments/{second}")
    assert "memory watched" not in get_page(http, f"/experiments/{first}")


@ON_ONE_ENGINE
def test_a_project_says_how_to_get_its_code(http: TestClient, project: str) -> None:
    assert f"git clone http://testserver/git/{project}.git<" in get_page(http, f"/projects/{project}")
    assert http.get(f"/git/{project}.bundle").content.startswith(b"# v2 git bundle")
