"""The tree of commits: bounded, collapsed, and the same on both engines."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.lineage import commits
from coordinator.projects.service import create_project
from coordinator.records import tree, tree_queries
from coordinator.records.tree import TreeSize, arrange
from coordinator.records.tree_queries import TreeLink
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History


def chain(length: int) -> list[TreeLink]:
    """Commits one on the other."""
    return [TreeLink(f"{n:03}", f"{n - 1:03}" if n else None, n) for n in range(length)]


def test_all_commits_are_placed_where_they_fit() -> None:
    links = [TreeLink("top", None, 0), TreeLink("a", "top", 1), TreeLink("b", "top", 1), TreeLink("c", "b", 2)]
    places = arrange(links, "top", {"a", "c"}, {"top", "b", "c"}, 10)
    assert [tuple(place) for place in places] == [("top", -1, 0, 0), ("b", 0, 1, 0), ("c", 1, 2, 0), ("a", 0, 1, 0)]


def test_a_long_line_is_left_out_and_counted_where_there_are_too_many() -> None:
    line = chain(500)
    places = arrange(line, "000", {"499"}, set(), 50)
    assert [(place.sha, place.skipped) for place in places] == [("000", 0), ("499", 498)]
    with_fork = arrange([*line, TreeLink("fork", "200", 201)], "000", {"499", "fork"}, set(), 50)
    assert [(place.sha, place.parent, place.skipped) for place in with_fork] == [
        ("000", -1, 0), ("200", 0, 199), ("499", 1, 298), ("fork", 1, 0)
    ]  # fmt: skip


def test_a_commit_whose_ancestors_were_not_read_hangs_on_the_top() -> None:
    places = arrange([TreeLink("top", None, 0), TreeLink("far", "unknown", 40)], "top", {"far"}, set(), 10)
    assert [tuple(place) for place in places] == [("top", -1, 0, 0), ("far", 0, 1, 39)]


@pytest.fixture
def history(database: Database, tmp_path: Path) -> History:
    """A line of six gains on the seed, each with two worse children beside the next."""
    with database.write() as session:
        project, _ = create_project(session, write_seed(tmp_path / "seed"))
        history = History(session, project)
        ada = history.add_worker("gpu", "ada")
        history.measure(ada, project.root_sha, 3.3)
        sha, metric = project.root_sha, 3.3
        for _ in range(6):
            for _ in range(2):
                history.add_experiment(ada, sha, metric + 0.1, make_proposal())
            metric -= 0.1
            sha = history.add_experiment(ada, sha, metric, make_proposal()).commit_sha
        return history


@pytest.mark.usefixtures("history")
def test_the_tree_has_the_best_and_newest_with_what_they_stand_on(http: TestClient, database: Database) -> None:
    columns = http.get("/projects/tiny/tree.json").json()
    assert len(columns["parents"]) == 19 and columns["parents"][0] == -1 and sum(columns["path"]) == 7
    assert all(parent < number for number, parent in enumerate(columns["parents"]))
    assert columns["hidden"] == [0] * 19 and columns["effects"][0] is None
    below = http.get("/projects/tiny/tree.json?below=3").json()
    assert below["experiments"][0] == 3 and len(below["parents"]) == 16
    with database.read() as session:
        project = tree.projects.get_project(session, "tiny")
        few = tree.view_tree(session, project, "cpu · 2 cores · x86_64-avx2", None, TreeSize(4, 1, 1)).nodes
        assert [node.skipped for node in few] == [0, 5] and few[0].hidden == 2, "one line: the best is the newest"
        assert tree_queries.count_children(session, [project.root_sha], 2) == {project.root_sha: 2}


@pytest.mark.usefixtures("history")
def test_ancestors_are_read_as_far_as_lines_meet(database: Database) -> None:
    with database.read() as session:
        project = tree.projects.get_project(session, "tiny")
        *line, root = commits.list_nearest(session, tree_queries.list_newest(session, project.id, 1)[0], 7)
        beside = next(one.sha for one in commits.list_children(session, [line[1]]) if one.sha != line[0])

        def climb(*shas: str, most: int = 100) -> list[str]:
            return sorted(link.sha for link in tree_queries.climb(session, [root, *shas], 2, most))

        assert climb(line[0]) == sorted([root, line[0]]), "nothing but one line is left"
        assert climb(line[0], beside) == sorted([root, beside, *line[:5]]), "where they met, one line is left"
        assert climb(line[0], line[4]) == sorted([root, *line]) and climb(line[5]) == sorted([root, line[5]])
        assert len(climb(line[0], line[5], most=5)) == 5
        assert set(tree_queries.list_path(session, line[0], [*line[2:4], beside], 3)) == set(line[2:4])


@pytest.mark.usefixtures("history")
def test_the_page_has_the_path_step_by_step_and_the_list_without_scripts(http: TestClient) -> None:
    page = http.get("/projects/tiny/tree").text
    assert "Path to the leader" in page and page.count('class="improved"') == 6
    assert page.count('<li class="level-') == 19 and "on the seed" in page
    narrow = http.get("/projects/tiny/tree?below=3").text
    assert "Whole tree" in narrow and narrow.count('<li class="level-') == 16
    for wrong in ("below=99", "below=0", "below=x"):
        assert http.get(f"/projects/tiny/tree?{wrong}").status_code in (404, 422)
    assert http.get("/projects/none/tree").status_code == 404


@pytest.mark.usefixtures("project")
def test_a_project_without_runs_has_a_tree(http: TestClient) -> None:
    page = http.get("/projects/tiny/tree").text
    assert "No commit leads yet" in page and "The project's seed" in page
    assert http.get("/projects/tiny/tree.json").json()["parents"] == [-1]
