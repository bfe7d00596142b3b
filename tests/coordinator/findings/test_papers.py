"""Papers: the words stay, the evidence around them follows the runs. Over HTTP, on both engines."""

import json
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient

from coordinator.accounts.service import add_token, find_or_add_volunteer
from coordinator.db.database import Database
from coordinator.findings.paper_queries import RivalRow
from coordinator.findings.papers import Written, judge, list_rival_changes
from coordinator.models import CommitPosterior, Experiment, Project
from coordinator.records import digest
from coordinator.selection.context_pack import PackRequest, compose_pack
from shared.experiments import Dispute, JobKind, Posterior, Standing, Verdict
from shared.findings import FindingState, Paper, Trend
from shared.formatting import format_measure
from shared.protocol import API_PREFIX, now
from shared.workers import Role, TokenScope
from tests.coordinator.findings.conftest import Author
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_proposal
from tests.support.swarm_data import History

EXPORT = f"{API_PREFIX}/projects/tiny/export/findings.jsonl"


def read(http: TestClient, finding_id: int) -> Paper:
    response = http.get(f"{API_PREFIX}/findings/{finding_id}")
    assert response.status_code == 200, response.text
    return Paper.model_validate_json(response.content)


def post(
    http: TestClient, database: Database, path: str, body: dict[str, Any], by: str = "ada", key: str = "",
    role: Role = Role.VOLUNTEER,
) -> httpx.Response:  # fmt: skip
    with database.write() as session:
        volunteer = find_or_add_volunteer(session, by)
        volunteer.role = role
        _, token = add_token(session, volunteer, "test", TokenScope.DUTIES, None)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key or str(uuid4())}
    return http.post(f"{API_PREFIX}/findings/{path}", json=body, headers=headers)


@ON_ONE_ENGINE
def test_a_paper_binds_words_to_what_was_measured(http: TestClient, author: Author) -> None:
    number = author.write("Wider is better", metric=3.2, mechanism="More of it.", refuted_by="A run at 256.")
    paper = read(http, number)
    assert paper.words.mechanism == "More of it." and paper.words.refuted_by == "A run at 256."
    assert (paper.summary.axis, paper.summary.topic, paper.summary.value) == ("WIDTH", "width", "128")
    assert paper.written_verdict is Verdict.IMPROVED and paper.written_effect_mean is not None
    assert paper.written_effect_mean == pytest.approx(paper.summary.posterior.effect_mean)  # type: ignore[union-attr]
    assert (paper.runs, paper.volunteers, paper.trend, paper.changes) == (1, 1, Trend.AS_WRITTEN, [])
    assert [known.hardware_class for known in paper.evidence] == [paper.summary.hardware_class]


@ON_ONE_ENGINE
def test_what_others_measure_later_weakens_or_strengthens_it(http: TestClient, author: Author) -> None:
    number = author.write("Wider is better", metric=3.2)
    before = read(http, number)
    run = author.measure(number, 3.215)
    paper = read(http, number)
    assert paper.words == before.words, "words stay as they were written"
    assert paper.written_effect_mean == before.written_effect_mean
    assert (paper.changes[0].trend, paper.changes[0].run_id) == (Trend.WEAKENED, run)
    assert f"Weakened by run {run} of grace/grace-1" in paper.changes[0].words
    assert paper.trend is Trend.WEAKENED and (paper.runs, paper.volunteers) == (2, 2)
    other = author.write("Deeper is better", axis="DEPTH", metric=3.2)
    author.measure(other, 3.2)
    assert read(http, other).changes[0].trend is Trend.STRENGTHENED


def test_the_numbers_of_a_claim_follow_the_evidence_at_every_door(
    http: TestClient, database: Database, author: Author
) -> None:
    """A template's claim, and one with typed results: never a number that is not so."""
    template = author.write("A 1 -> 2", claim="A 1 -> 2: val_bpb {result}", caveats="{replication}", metric=3.2)
    ahead = "Go on from 3.2: try 4."
    typed = author.write(
        "B 1 -> 2", claim="B at 2 is better by 0.1, val_bpb 3.2", axis="B", metric=3.2, follow_ups=ahead
    )
    words = [read(http, number).words for number in (template, typed)]
    assert "(one run, provisional)" in words[0].claim and words[0].caveats.startswith("One run")
    assert "better by" in words[0].claim and "better by" in words[1].claim
    with database.read() as session:
        project = session.query(Project).one()
        pack = compose_pack(session, PackRequest(project, project.root_sha, HARDWARE.hardware_class, "", [])).text
    said = [json.loads(line)["claim"] for line in http.get(EXPORT).text.splitlines()]
    assert said == [one.claim for one in words] and words[1].claim in pack, "the same words from rows of tables"
    for number in (template, typed):
        for volunteer in ("grace", "joan"):
            author.measure(number, 3.31, volunteer)
    for number in (template, typed):
        paper = read(http, number)
        known = paper.summary.posterior
        assert known is not None and known.effect_mean is not None and known.effect_sd is not None and known.runs == 3
        size = format_measure(abs(known.effect_mean), known.effect_sd)
        exported = http.get(EXPORT)
        doors = {
            "summary": paper.summary.claim,
            "words": paper.words.claim,
            "page": http.get(f"/findings/{number}").text,
            "list": http.get(f"{API_PREFIX}/findings?project=tiny").text,
            "search": http.get(f"{API_PREFIX}/findings/search?q=val_bpb+{paper.summary.axis}").text,
            "citation": http.get(f"{API_PREFIX}/findings/{number}/bibtex").text.replace(r"\_", "_"),
            "export": " ".join(json.loads(line)["claim"] for line in exported.text.splitlines()),
            "experiment": http.get(f"{API_PREFIX}/experiments/{paper.summary.experiment_id}").text,
            "report": http.get(f"/findings/{number}/report").text,
            "topic": http.get(f"/topics/tiny/{paper.summary.topic}").text,
        }
        for name, text in doors.items():
            assert size in text, (name, text)
            assert "{result}" not in text and "by 0.1000" not in text and "by 0.1," not in text, (name, text)
    assert read(http, template).words.caveats == "3 runs; 2 other volunteers measured it, too."
    crashed = read(http, author.write("D 1 -> 2", claim="D at 2: {result}", axis="D", metric=None)).words.claim
    assert crashed == "D at 2: not measured (crashed)"
    assert f'"{crashed}"' in http.get(EXPORT).text
    with database.read() as session:
        made = digest.make(session, session.query(Project).one(), digest.name_week(now()))
    asked = [one["text"] for one in http.get(f"{API_PREFIX}/topics/tiny/b").json()["follow_ups"]]
    assert asked == [one.text for one in made.open_questions] == [read(http, typed).words.follow_ups] != [ahead]
    assert re.search(r"Go on from 3\.\d+ ± ", asked[0])


@ON_ONE_ENGINE
def test_constants_that_changed_together_are_named(http: TestClient, author: Author) -> None:
    alone = author.write("LR 0.1 -> 0.2", axis="LR")
    together = author.write("LR 0.1 -> 0.2, DECAY 0.3 -> 0.4", axis="LR and DECAY", value="0.2, 0.4")
    assert read(http, alone).confounded == [] and read(http, together).confounded == ["LR", "DECAY"]
    page = http.get(f"/findings/{together}").text
    assert "<bdi>LR</bdi> and <bdi>DECAY</bdi> changed together" in page


@ON_ONE_ENGINE
@pytest.mark.parametrize(
    ("edits", "named"),
    [
        ({"LR = 0.1": "LR = 0.2  # faster", "DEPTH: int = 2": "DEPTH: int = 3", "WD=0": "WD=1"}, ["LR", "DEPTH", "WD"]),
        ({"LR = 0.1": "LR = 0.2", "return x": "return x + x"}, ["LR", "code"]),
        ({"LR = 0.1": "LR = 0.2", "return x": "return x  # as it is"}, []),
        ({"return x": "return SCALE * x", "WD=0": "WD=0\nSCALE = 2"}, []),
        ({'"SSL"': '"SL"  # shorter', "0.9)": "0.8)", "return x": "return x  # as it is"}, ["PATTERN", "BETAS"]),
        ({"LR = 0.1": "LR = 1.", "return x": "return x  # as it is"}, []),
        ({"LR = 0.1": "LR = 0.2", "    2,": "    4,"}, ["LR", "code"]),
    ],
)
def test_what_changed_together_is_read_from_the_code(
    http: TestClient, database: Database, author: Author, edits: dict[str, str], named: list[str]
) -> None:
    """Whatever the agent says that it changed."""
    lines = ("LR = 0.1", "DEPTH: int = 2", "WD=0", 'PATTERN = "SSL"', "BETAS = (0.5, 0.9)  # of Adam", "WIDTHS = (",
             "    1,", "    2,", ")", "ON = bool(1)", "def f(x):", "    return x")  # fmt: skip
    code = "".join(f"{line}\n" for line in lines)
    with database.write() as session:
        past = History(session, session.query(Project).one())
        ada, proposal = past.add_worker("ada-1"), make_proposal("Learn faster")
        parent = past.add_experiment(ada, past.project.root_sha, 3.2, proposal, edit=lambda text: code)

        def change(text: str) -> str:
            for old, new in edits.items():
                text = text.replace(old, new)
            return text

        past.add_experiment(ada, parent.commit_sha, 3.1, proposal, edit=change)
    assert read(http, 2).confounded == named


@ON_ONE_ENGINE
def test_the_same_step_elsewhere_speaks_for_or_against_it(http: TestClient, author: Author) -> None:
    number = author.write("Wider is better", metric=3.2)
    same = author.write("The same once more", metric=3.31)
    paper = read(http, number)
    assert [change.experiment_id for change in paper.changes] == [read(http, same).summary.experiment_id]
    assert "did the same from another parent: worse" in paper.changes[0].words
    assert paper.changes[0].trend is Trend.WEAKENED


def test_versions_are_permanent(http: TestClient, database: Database, author: Author) -> None:
    number = author.write("Wider is beter", tags=["width"], caveats="Saturation.")  # type: ignore[arg-type]
    body = {"claim": "Wider is better", "agent": "ada herself", "tags": ["capacity"]}
    key = str(uuid4())
    for _ in range(2):  # the answer was lost, and it is sent again
        assert post(http, database, f"{number}/versions", body, key=key).status_code == 201
    assert read(http, number).words.version == 2
    old, new = (http.get(f"{API_PREFIX}/findings/{number}/versions/{n}").json() for n in (1, 2))
    assert (old["claim"], old["tags"], new["claim"], new["tags"]) == (
        "Wider is beter", ["width"], "Wider is better", ["capacity"],
    )  # fmt: skip
    assert http.get(f"{API_PREFIX}/findings/{number}/versions/3").status_code == 404
    found = http.get(f"{API_PREFIX}/findings/search", params={"q": "better", "tag": "capacity"}).json()["items"]
    assert [hit["finding"]["id"] for hit in found] == [number]
    assert http.get(f"{API_PREFIX}/findings/search", params={"q": "saturation"}).json()["items"] == []
    assert post(http, database, f"{number}/versions", body, by="grace").status_code == 403


def test_retraction_and_notes_leave_a_trace(http: TestClient, database: Database, author: Author) -> None:
    number = author.write("Wider is better")
    assert post(http, database, f"{number}/notes", {"text": "Look at the seed."}, by="grace").status_code == 403
    assert post(http, database, f"{number}/retraction", {"text": "Not mine."}, by="grace").status_code == 403
    key = str(uuid4())
    for _ in range(2):
        assert post(http, database, f"{number}/retraction", {"text": "A mistake."}, key=key).status_code == 201
    assert post(http, database, f"{number}/retraction", {"text": "Again."}).status_code == 409
    assert http.get(f"{API_PREFIX}/findings/search", params={"q": "wider"}).json()["items"] == []
    shown = http.get(f"{API_PREFIX}/findings", params={"with_retracted": True}).json()["items"]
    assert [item["state"] for item in shown] == [FindingState.RETRACTED]
    for path, text in (("notes", "Measured on a loaded machine."), ("restoration", "It was right.")):
        done = post(http, database, f"{number}/{path}", {"text": text}, by="eve", role=Role.MAINTAINER)
        assert done.status_code == 201, done.text
    paper = read(http, number)
    assert paper.summary.state is FindingState.PUBLISHED
    assert [(note.kind, note.by) for note in paper.notes] == [
        ("retraction", "ada"), ("note", "eve"), ("restoration", "eve"),
    ]  # fmt: skip
    assert post(http, database, "999/notes", {"text": "?"}).status_code == 404


@ON_ONE_ENGINE
def test_how_an_experiment_failed_has_a_class(http: TestClient, database: Database, author: Author) -> None:
    assert read(http, author.write("crashed", metric=None)).summary.failure == "crashed"
    assert read(http, author.write("worse", metric=3.4)).summary.failure == "worse"
    assert read(http, author.write("better", metric=3.2)).summary.failure is None
    with database.write() as session:
        project = session.query(Project).one()
        history = History(session, project)
        worker = history.add_worker("ada-1")
        told = {"out_of_memory": "CUDA out of memory: tried to allocate", "diverged": "the loss is not finite"}
        for reason in told.values():
            history.add_experiment(worker, project.root_sha, None, make_proposal(reason), reason=reason)
    listed = http.get(f"{API_PREFIX}/findings", params={"limit": 2}).json()["items"]
    assert [item["failure"] for item in listed] == list(told)[::-1]


@ON_ONE_ENGINE
def test_what_was_slow_and_lost_is_told_apart(http: TestClient, database: Database, author: Author) -> None:
    with database.write() as session:
        project = session.query(Project).one()
        history = History(session, project)
        worker = history.add_worker("ada-1")  # which saw 400,000 tokens when it measured the root
        for metric, tokens in ((3.4, 280_000), (3.2, 280_000), (3.4, 390_000)):
            history.add_experiment(worker, project.root_sha, metric, make_proposal(f"{tokens}"), tokens=tokens)
    listed = [item["id"] for item in http.get(f"{API_PREFIX}/findings").json()["items"]][::-1]
    papers = [read(http, number) for number in listed]
    assert [paper.pace for paper in papers] == pytest.approx([0.7, 0.7, 0.975])
    assert [paper.summary.failure for paper in papers] == ["slower", None, "worse"]
    for failure in ("slower", "no_effect", "worse"):
        for path in ("", "/search"):
            words = {"q": "tokens 280000 390000"} if path else {}
            found = http.get(f"{API_PREFIX}/findings{path}", params={"failure": failure} | words)
            told = {item.get("finding", item)["id"] for item in found.json()["items"]}
            assert told == {paper.summary.id for paper in papers if paper.summary.failure == failure}
    for _ in range(3):
        author.measure(listed[0], 3.1)
    assert read(http, listed[0]).summary.failure is None, "its verdict is another now"


GAIN = Written(-0.02, 0.005, Verdict.IMPROVED)
NOTHING, OPEN = Written(0.0004, 0.005, Verdict.NO_CHANGE), Written(-0.004, 0.005, Verdict.UNRESOLVED)


def posterior(effect: float, sd: float = 0.005, **changes: Any) -> Posterior:
    fields = {"metric_mean": 3.2, "metric_sd": 0.004, "effect_mean": effect, "effect_sd": sd, "runs": 3}
    return Posterior.model_validate(fields | {"verdict": Verdict.IMPROVED} | changes)


@pytest.mark.parametrize(
    ("later", "trend"),
    [
        (posterior(-0.021), Trend.AS_WRITTEN),
        (posterior(-0.010), Trend.WEAKENED),
        (posterior(-0.030), Trend.STRENGTHENED),
        (posterior(-0.020, sd=0.002), Trend.STRENGTHENED),
        (posterior(-0.001, verdict=Verdict.NO_CHANGE), Trend.OVERTURNED),
        (posterior(-0.019, verdict=Verdict.UNRESOLVED), Trend.AS_WRITTEN),
        (posterior(-0.020, standing=Standing.SUSPECT), Trend.WEAKENED),
        (posterior(-0.020, dispute=Dispute.CONTESTED), Trend.WEAKENED),
        (posterior(-0.020, dispute=Dispute.REFUTED), Trend.OVERTURNED),
        (None, Trend.AS_WRITTEN),
    ],
)
def test_how_evidence_stands_to_what_it_was(later: Posterior | None, trend: Trend) -> None:
    assert judge(GAIN, later, sign=1.0) is trend


def test_a_metric_that_is_to_rise_is_read_the_other_way_round() -> None:
    assert judge(GAIN, posterior(0.030), sign=-1.0) is Trend.STRENGTHENED
    assert judge(GAIN, posterior(0.010), sign=-1.0) is Trend.WEAKENED


def rival(effect: float, verdict: Verdict, *, is_ablation: bool) -> RivalRow:
    kind = JobKind.ABLATE if is_ablation else JobKind.IMPROVE
    experiment = Experiment(id=31, kind=kind, created_at=now())
    return experiment, CommitPosterior(effect_mean=effect, effect_sd=0.004, verdict=verdict)


@pytest.mark.parametrize(
    ("one", "trend"),
    [
        (rival(0.02, Verdict.WORSE, is_ablation=True), Trend.STRENGTHENED),
        (rival(0.0, Verdict.NO_CHANGE, is_ablation=True), Trend.WEAKENED),
        (rival(-0.02, Verdict.IMPROVED, is_ablation=True), Trend.WEAKENED),
        (rival(-0.02, Verdict.IMPROVED, is_ablation=False), Trend.STRENGTHENED),
        (rival(0.0, Verdict.NO_CHANGE, is_ablation=False), Trend.WEAKENED),
    ],
)
def test_taking_the_step_out_again_speaks_for_or_against_it(one: RivalRow, trend: Trend) -> None:
    (change,) = list_rival_changes(GAIN, [one], sign=1.0)
    assert (change.trend, change.experiment_id) == (trend, 31)
    assert change.words.startswith(trend.capitalize())


@pytest.mark.parametrize(
    ("written", "later", "trend"),
    [
        (NOTHING, posterior(-0.001, verdict=Verdict.NO_CHANGE), Trend.AS_WRITTEN),
        (NOTHING, posterior(0.0002, sd=0.001, verdict=Verdict.NO_CHANGE), Trend.STRENGTHENED),
        (NOTHING, posterior(-0.007, verdict=Verdict.UNRESOLVED), Trend.WEAKENED),
        (NOTHING, posterior(0.007, verdict=Verdict.UNRESOLVED), Trend.WEAKENED),
        (NOTHING, posterior(-0.02), Trend.OVERTURNED),
        (OPEN, posterior(0.007, verdict=Verdict.UNRESOLVED), Trend.AS_WRITTEN),
        (OPEN, posterior(-0.004, sd=0.001, verdict=Verdict.UNRESOLVED), Trend.AS_WRITTEN),
        (OPEN, posterior(0.02, verdict=Verdict.WORSE), Trend.DECIDED),
    ],
)
def test_what_claims_no_change_and_what_claims_nothing_have_no_side(
    written: Written, later: Posterior, trend: Trend
) -> None:
    assert judge(written, later, sign=1.0) is trend


def test_no_change_is_borne_out_by_no_change_and_what_is_open_by_nothing() -> None:
    rivals = [rival(0.0, Verdict.NO_CHANGE, is_ablation=False), rival(-0.02, Verdict.IMPROVED, is_ablation=False)]
    said = [change.trend for change in list_rival_changes(NOTHING, rivals, sign=1.0)]
    assert said == [Trend.STRENGTHENED, Trend.WEAKENED]
    changes = list(list_rival_changes(OPEN, rivals, sign=1.0))
    assert [one.trend for one in changes] == [Trend.AS_WRITTEN] * 2
    assert all(one.words.startswith("Followed by experiment 31, which did") for one in changes)


def test_what_is_not_concluded_says_nothing() -> None:
    assert list(list_rival_changes(GAIN, [rival(0.0, Verdict.UNRESOLVED, is_ablation=True)], sign=1.0)) == []
