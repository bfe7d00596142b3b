"""A session becomes a project: curve, commits and file as they were, once, and open to the swarm's work."""

import os
import subprocess
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from coordinator.autoresearch import reading
from coordinator.autoresearch.git_repository import RepositoryInvalidError
from coordinator.autoresearch.lookup import list_lines
from coordinator.autoresearch.reading import ImportOptions
from coordinator.autoresearch.service import (
    ImportReport,
    SessionChangedError,
    describe,
    import_session,
    preview_session,
)
from coordinator.autoresearch.tables import ResultsInvalidError
from coordinator.db.database import Database
from coordinator.evidence import epochs
from coordinator.git_http.queries import list_experiment_refs
from coordinator.lineage.service import read_files
from coordinator.projects import service as projects
from coordinator.projects.service import ProjectExistsError
from coordinator.records.progress import view_progress
from shared.contract import Direction
from shared.experiments import JobKind
from shared.records import ProjectProgress
from shared.runs import DeviceKind, Hardware
from tests.support.databases import ON_ONE_ENGINE, count_rows
from tests.support.git import run_git
from tests.support.seeds import write_seed
from tests.support.sessions import BRANCH, CASES, DATA, HARDWARE, Session, replay, write_small_session
from tests.support.volunteers import MiniWorker

pytestmark = pytest.mark.usefixtures("stays_whole")

H100 = Hardware(kind=DeviceKind.CUDA, model=HARDWARE, memory_mib=81_920, cores=1, precision="unknown")


def load(database: Database, session: Session, **changes: Any) -> ImportReport:
    options = ImportOptions(session.folder, BRANCH, session.results, HARDWARE, name="imported", power_cap_watts=0)
    with database.read() as read, database.write() as write:
        return import_session(read, write, ImportOptions(**(vars(options) | changes)))


def view(database: Database, name: str = "imported") -> ProjectProgress:
    with database.read() as session:
        return view_progress(session, projects.get_project(session, name), None)


@pytest.fixture
def small(tmp_path: Path) -> Session:
    return write_small_session(tmp_path / "autoresearch")


def test_rows_become_commits_runs_and_findings(database: Database, small: Session, http: Any) -> None:
    report = load(database, small)
    assert (report.rows, report.added, report.is_new) == (6, 6, True)
    assert f"Hardware class: {H100.hardware_class}." in report.account
    assert any(line.startswith("Left out of the code: progress.png") for line in report.account)
    newest = http.get("/api/v1/experiments?project=imported").json()["items"]
    titles = [row["title"] for row in newest]
    assert titles[::-1][:2] == ["matrix_lr 0.04->0.03", "increase DEPTH to 12"] and len(titles) == 5
    by_title = {row["title"]: row for row in newest}
    kept, lost = by_title["reduce WARMDOWN_RATIO to 0.4"], by_title["swap relu for gelu"]
    assert kept["parent_sha"] == by_title["matrix_lr 0.04->0.03"]["sha"], "as in git"
    assert lost["parent_sha"] == kept["sha"], "a child of the best at that time"
    assert lost["posterior"]["standing"] == "reported" and kept["posterior"]["standing"] == "provisional"
    detail = http.get(f"/api/v1/experiments/{kept['id']}").json()
    assert "-print('val_bpb:          2.050000')" in detail["diff"] and "2.010000" in detail["diff"]
    assert http.get(f"/api/v1/experiments/{lost['id']}").json()["diff"] == ""
    crash = http.get(f"/api/v1/experiments/{by_title['double MLP width (OOM)']['id']}").json()
    assert crash["outcome"] == "crashed" and crash["runs"][0]["reason"].startswith("crash: double MLP")
    assert crash["finding"]["claim"] == "double MLP width (OOM)"
    assert http.get("/api/v1/projects/imported").json()["self_scored"] is True
    branch = http.get("/api/v1/projects/imported/branches").json()["items"][0]
    assert branch["head_sha"] == kept["sha"]
    with database.read() as session:
        assert list(epochs.find_differences(session)) == []
    ids = {row["title"]: row["id"] for row in http.get("/api/v1/experiments?project=imported").json()["items"]}
    pair = {"project": "imported", "a": ids["matrix_lr 0.04->0.03"], "b": ids["swap relu for gelu"]}
    (compared,) = http.get("/api/v1/compare", params=pair).json()["classes"]
    assert compared["difference_mean"] == pytest.approx(2.03 - 2.05, abs=0.005), "against it, and not against the seed"


@ON_ONE_ENGINE
@pytest.mark.parametrize("name", ["session-a.tsv", "session-b.tsv"])
def test_the_curve_and_the_file_are_those_of_the_session(database: Database, tmp_path: Path, name: str) -> None:
    session = replay(tmp_path / "autoresearch", DATA / name)
    report = load(database, session)
    assert not any("not read" in line for line in report.account)
    progress = view(database)
    told = [float(line.split("\t")[1]) for line in session.results.read_text().splitlines()[1:]]
    assert [point.metric for point in progress.points] == told
    best = list(accumulate(told, min))
    for point, lowest in zip(progress.points, best, strict=True):
        assert point.posterior is not None and point.leading == pytest.approx(lowest, abs=2 * point.posterior.metric_sd)
    leading = [point.leading for point in progress.points]
    steps = [now != before for before, now in pairwise(leading)]
    assert steps == [now != before for before, now in pairwise(best)]
    with database.read() as read:
        project = projects.get_project(read, "imported")
        assert b"".join(list_lines(read, project.id)) == session.results.read_bytes()


def test_an_import_is_repeatable_and_goes_on_with_the_session(database: Database, small: Session) -> None:
    load(database, small)
    before = count_rows(database)
    again = load(database, small)
    assert (again.added, again.is_new) == (0, False) and count_rows(database) == before
    assert "Direction: Less val_bpb is better, as when the project was imported." in again.account
    with pytest.raises(ResultsInvalidError, match="--direction is not that of the project"):
        load(database, small, direction=Direction.MAXIMIZE)
    kept = small.keep("1.990000", "weight_decay 0.1->0.2")
    further = load(database, small)
    assert further.added == 1
    points = view(database).points
    assert len(points) == 7 and points[-1].metric == 1.99
    with database.read() as session:
        message = session.execute(
            text("select count(*) from branch_moves where to_sha = :sha"), {"sha": points[-1].sha}
        )
        assert message.scalar_one() == 1, f"the branch follows {kept}"
    small.results.write_text(small.results.read_text().replace("2.050000", "2.040000"))
    with pytest.raises(SessionChangedError, match="Line 3"):
        load(database, small)


@ON_ONE_ENGINE
def test_a_session_goes_on_after_an_update_of_the_package(
    database: Database, small: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(database, small)
    root = view(database).points[0].sha
    with database.read() as read:
        before = read_files(read, projects.get_project(read, "imported").id, root)
    (tmp_path / "channel.py").write_text("# of another version\n")
    monkeypatch.setattr(reading, "CHANNEL_FILE", tmp_path / "channel.py")
    small.keep("1.990000", "weight_decay 0.1->0.2")
    assert load(database, small).added == 1 and load(database, small).added == 0
    with database.read() as read:
        project = projects.get_project(read, "imported")
        assert project.root_sha == root == view(database).points[0].sha
        assert read_files(read, project.id, view(database).points[-1].sha).keys() == before.keys()
        assert read_files(read, project.id, root) == before != {}
    assert "# of another version" in "".join(reading.read_harness().values()), "new imports get the new files"


@ON_ONE_ENGINE
def test_another_first_commit_is_another_session(database: Database, small: Session, tmp_path: Path) -> None:
    load(database, small)
    other = Session(tmp_path / "elsewhere" / "autoresearch")
    other.note(other.commit("another beginning", "2.11"), "2.11", "keep", "baseline")
    before = count_rows(database)
    with pytest.raises(SessionChangedError, match="first commit"):
        load(database, other)
    assert count_rows(database) == before


def test_nothing_is_stored_of_an_import_that_fails(database: Database, small: Session, tmp_path: Path) -> None:
    before = count_rows(database)
    with pytest.raises(RepositoryInvalidError, match="no branch 'nope'"):
        load(database, small, branch="nope")
    with pytest.raises(RepositoryInvalidError, match="no git repository"):
        load(database, small, repository=tmp_path)
    with pytest.raises(RepositoryInvalidError, match="--script"):
        load(database, small, script="missing.py")
    with pytest.raises(ResultsInvalidError, match="--results"):
        load(database, small, results=None)
    assert count_rows(database) == before
    with database.write() as session:
        projects.create_project(session, write_seed(tmp_path / "seed"))
    with pytest.raises(ProjectExistsError, match="--name"):
        load(database, small, name="tiny")


@ON_ONE_ENGINE
def test_unreadable_rows_are_listed_and_kept(database: Database, small: Session) -> None:
    small.note("a1b2c3d", "about 2", "discard", "no number")
    small.keep("2.000000", "embed_lr 0.6->0.7")
    for _ in range(2):
        small.note("a1b2c3d", "soon", "discard", "no number either")
    small.keep("1.900000", "embed_lr 0.7->0.8")
    small.note("a1b2c3d", "soon", "discard", "nor here")
    report = load(database, small)
    assert "Line 8 is not read: its val_bpb is not a number: 'about 2'." in report.account
    assert "Lines 10 to 11 and 13 are not read: its val_bpb is not a number: 'soon'." in report.account
    assert report.added == 8
    with database.read() as read:
        project = projects.get_project(read, "imported")
        assert b"".join(list_lines(read, project.id)) == small.results.read_bytes()


@ON_ONE_ENGINE
def test_all_words_of_a_row_stand_in_its_paper(database: Database, tmp_path: Path, http: Any) -> None:
    """A long description was cut at 200 characters, in a word, and what the agent thought was not read."""
    session = Session(tmp_path / "wordy")
    session.note(session.head[:7], "1.000000", "keep", "baseline")
    session.note(
        "", "0.900000", "keep", "depth 8 to 9: " + "a deeper model learns more slowly " * 9 + "and pays in the end"
    )
    lines = session.results.read_text().splitlines()
    more = ["hypothesis\tinterpretation\tnext_step", "–\t\t", "Depth is short.\tIt was the depth.\tTry 10."]
    session.results.write_text("".join(f"{a}\t{b}\n" for a, b in zip(lines, more, strict=True)))
    load(database, session)
    (found,) = (
        row for row in http.get("/api/v1/experiments?project=imported").json()["items"] if "depth" in row["title"]
    )
    assert len(found["title"]) <= 200 and found["title"].endswith("a deeper model…")
    detail = http.get(f"/api/v1/experiments/{found['id']}").json()
    words = detail["finding"]
    assert detail["hypothesis"] == "Depth is short." and words["claim"] == found["title"]
    assert words["mechanism"].startswith("… learns more slowly a deeper") and words["follow_ups"] == "Try 10."
    assert words["mechanism"].endswith("and pays in the end. It was the depth.")
    assert http.get("/api/v1/findings/search?q=pays in the end&project=imported").json()["items"]


@ON_ONE_ENGINE
def test_higher_may_be_better(database: Database, tmp_path: Path) -> None:
    session = Session(tmp_path / "accuracy", metric="Test-Accuracy")
    session.note(session.head[:7], "0.500000", "keep", "baseline")
    session.discard("0.400000", "lower LR to 0.1")
    session.keep("0.700000", "increase LR to 0.3")
    load(database, session)
    progress = view(database)
    assert (progress.metric, progress.direction) == ("test_accuracy", "maximize")
    assert progress.points[-1].leading == pytest.approx(0.7, abs=0.05)
    assert progress.leader_sha == progress.points[-1].sha


@ON_ONE_ENGINE
def test_the_swarm_works_on_from_the_best_commit_with_code(
    database: Database, small: Session, make_worker: Callable[..., MiniWorker]
) -> None:
    small.note("", "1.900000", "keep", "a gain whose code is lost")
    load(database, small)
    worker = make_worker()
    root = worker.claim_job(hardware=H100, project="imported")
    assert root.kind is JobKind.REPLICATE
    bases = set()
    for number in range(6):
        other = make_worker(f"w{number + 2}", f"volunteer-{number}")
        bases.add(other.claim_job(hardware=H100, project="imported").base.sha)
    with database.read() as session:
        lost = set(session.scalars(text("select sha from commits where not has_code")))
    assert len(lost) == 4 and not lost & (bases | {root.base.sha})


@pytest.fixture(scope="module")
def case_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "repository"
    subprocess.run(
        ["/bin/sh", CASES / "make_repo.sh", folder],
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder.parent)},
    )
    return folder


def load_case(database: Database, repository: Path, number: int, name: str = "imported") -> ImportReport:
    (path,) = CASES.glob(f"{number:02}-*")
    options = ImportOptions(repository, "session", path, "H100", name=name)
    with database.read() as read, database.write() as write:
        return import_session(read, write, options)


def test_one_hash_of_several_experiments(database: Database, case_repository: Path, http: Any) -> None:
    report = load_case(database, case_repository, 1)
    assert any(line.startswith("4 rows of another's hash") for line in report.account)
    found = {row["title"]: row for row in http.get("/api/v1/experiments?project=imported").json()["items"]}
    kept, split = found["log target"], found["gamma 0.1"]
    assert split["parent_sha"] == kept["sha"] and (kept["has_code"], split["has_code"]) == (True, False)
    assert found["leaf weight 5"]["parent_id"] == found["column sampling 0.6"]["id"]
    assert (kept["done_at"], split["done_at"]) == ("2026-01-02T00:00:00Z", None)
    page = http.get(f"/experiments/{split['id']}").text
    assert "date not known" in page and "The code is lost" in page and "seed 0" not in page
    run = http.get(f"/api/v1/experiments/{split['id']}").json()["runs"][0]
    assert all(run[name] is None for name in ("seed", "steps", "tokens", "seconds", "started_at", "finished_at"))
    files = http.get(f"/api/v1/projects/imported/commits/{split['sha']}/files")
    assert files.status_code == 410 and "is lost" in files.json()["detail"]
    compared = http.get("/api/v1/compare", params={"project": "imported", "a": kept["sha"], "b": split["sha"]}).json()
    assert compared["diff"] == "" and "is lost" in compared["no_diff"]
    noise = http.get("/api/v1/hardware-classes?project=imported").json()["items"][0]
    assert noise["noise_is_assumed"] is True
    story = http.get(f"/api/v1/experiments/{kept['id']}/evidence").json()
    assert story["noise_is_assumed"] and "assumed" in " ".join(story["story"])
    with database.read() as session:
        tags = {ref.sha for ref in list_experiment_refs(session, projects.get_project(session, "imported").id)}
    assert kept["sha"] in tags and split["sha"] not in tags
    finding = http.get("/api/v1/findings?project=imported&axis=gamma").json()["items"][0]["id"]
    assert "year" not in http.get(f"/api/v1/findings/{finding}/bibtex").text
    assert "The code is lost" in http.get(f"/findings/{finding}").text
    assert "date not known" in http.get("/findings?project=imported").text
    own = http.get("/api/v1/findings?project=imported&axis=column%20sampling").json()["items"][0]["id"]
    entry = http.get(f"/api/v1/findings/{own}/bibtex").text
    assert "year = {2026}" in entry and "month = jan" in entry and "imported-sessions" not in entry


@ON_ONE_ENGINE
def test_a_seed_change_is_a_replicate(database: Database, case_repository: Path, http: Any) -> None:
    load_case(database, case_repository, 20)
    found = {row["title"]: row for row in http.get("/api/v1/experiments?project=imported").json()["items"]}
    assert set(found) == {"lower rate", "matrix rate 0.04 to 0.045"}
    assert [row["posterior"]["runs"] for row in found.values()] == [2, 2]
    assert http.get("/api/v1/hardware-classes?project=imported").json()["items"][0]["noise_is_assumed"] is False


def test_each_case_becomes_a_whole_project(database: Database, case_repository: Path) -> None:
    for number in (2, 4, 6, 7, 9, 10, 12, 14, 15, 18, 21):
        report = load_case(database, case_repository, number, f"case-{number}")
        assert report.added == report.rows > 0, number


@ON_ONE_ENGINE
def test_large_logs_in_the_commits_are_not_the_code(database: Database, tmp_path: Path) -> None:
    session = Session(tmp_path / "autoresearch")
    session.note(session.head[:7], "2.1", "keep", "baseline")
    for number, size in enumerate((300_000, 900_000, 2_000_000)):
        (session.folder / "run.log").write_text("x" * size)
        (session.folder / "notes.dat").write_text(f"{number}\n" * (size // 2))
        session.keep(f"{2 - number / 10:.6f}", f"step {number} to {number + 1}")
    report = load(database, session)
    assert not any("Without code" in line for line in report.account)
    with database.read() as read:
        project = projects.get_project(read, "imported")
        assert projects.contract_of(project).files.editable == ["train.py"]


@ON_ONE_ENGINE
def test_a_preview_stores_nothing_and_says_the_same(database: Database, small: Session) -> None:
    before = count_rows(database)
    options = ImportOptions(small.folder, BRANCH, small.results, HARDWARE, name="imported", power_cap_watts=0)
    with small.results.open("a") as file:
        file.write("\tmany\t1\tkeep\tno number\n")
    with database.read() as read:
        told = preview_session(read, options)
    assert count_rows(database) == before
    assert "Without code: 3 experiments. The history does not hold their commits." in told
    assert describe(load(database, small))[1:] == told[1:] and any("Direction: Less val_bpb" in line for line in told)


@ON_ONE_ENGINE
def test_dangling_commits_still_have_their_code(database: Database, tmp_path: Path, http: Any) -> None:
    session = Session(tmp_path / "autoresearch")
    base = session.head
    session.note(base[:7], "2,1", "keep", "baseline")
    tried = session.commit("try a wider net", "2.2")
    session.note(tried, "2,2", "discard", "width 0,5 to 0,75")
    run_git("-C", str(session.folder), "reset", "--quiet", "--hard", base)
    report = load(database, session)
    assert not any("Without code" in line for line in report.account)
    (experiment,) = http.get("/api/v1/experiments?project=imported").json()["items"]
    assert (experiment["axis"], experiment["value"]) == ("width", "0.75"), "a comma begins a fraction here"
    assert "2.2" in http.get(f"/api/v1/experiments/{experiment['id']}").json()["diff"]
