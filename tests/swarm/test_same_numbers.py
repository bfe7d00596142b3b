"""Every way to read a swarm's numbers gives the same ones: those that this file computes by itself, with numpy and by
what docs/decisions/0008 says, from runs and their offsets."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from html import unescape
from math import floor, log10
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from shared.experiments import Assignment, AxisDirection, JobKind, Step, StepFate, StepReport
from shared.findings import FindingDraft
from swarm.cli import app
from swarm.client import Client
from swarm.mcp_server import make_server
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import History, crash, end_epochs

Get = Callable[[str], Any]
UP, DOWN, CHANGE = AxisDirection
DONE, CONFLICT = StepFate.DONE, StepFate.CONFLICT
LAST = 11
SOME = (1, 5, 6, 7, 8, 10)


def fill(database: Database, folder: Path) -> None:
    """Steps of every kind: ordinary ones, adopted with and without a conflict, combined, taken out, one that crashed
    and one upon it."""
    with database.write() as session:
        past = History(session, create_project(session, write_seed(folder / "seed"))[0])
        ada, bo, cy = (past.add_worker("w", name, is_anchor=name != "ada") for name in ("ada", "bo", "cy"))
        for worker, slower in ((ada, 0.0), (bo, 0.0), (cy, 0.004)):
            for metric in (3.301, 3.297, 3.303):
                past.measure(worker, past.project.root_sha, metric + slower)
        made: dict[int, Any] = {}

        def add(
            worker: Any, parent: int, metric: float | None, title: str, axis: str, value: str = "",
            direction: AxisDirection = UP, steps: dict[int, StepFate] | None = None, predicted: float | None = None,
            settings: dict[str, Any] | None = None, kind: JobKind = JobKind.IMPROVE, **changes: Any,
        ) -> None:  # fmt: skip
            done = [StepReport(experiment_id=number, fate=fate) for number, fate in (steps or {}).items()]
            known = {"LEARNING_RATE": 0.003, "DEPTH": 4} | (settings or {})
            words = {"axis": axis, "value": value, "direction": direction, "settings": known, "steps": done}
            asked = [
                Step(experiment_id=i, title=made[i].title, sha=made[i].commit_sha, parent_sha=made[i].parent_sha)
                for i in steps or ()
            ]
            assignment = Assignment(
                steps=asked,
                settings=settings or {}, predicted_effect=predicted,
            )  # fmt: skip
            one = past.add_experiment(
                worker, made[parent].commit_sha if parent else past.project.root_sha, metric,
                make_proposal(title).model_copy(update=words), FindingDraft(claim="It is {result}", agent="search"),
                kind=kind, assignment=assignment, **changes,
            )  # fmt: skip
            made[one.id] = one

        add(ada, 0, 3.220, "DEPTH 4 -> 6", "DEPTH", "6")
        add(bo, 0, 3.270, "LEARNING_RATE 0.003 -> 0.004", "LEARNING_RATE", "0.004")
        add(cy, 0, 3.260, "DEPTH 4 -> 5", "DEPTH", "5")
        for worker, number, metric in ((bo, 1, 3.225), (cy, 1, 3.229)):
            past.measure(worker, made[number].commit_sha, metric)
        add(ada, 1, 3.180, "DEPTH 6 -> 8", "DEPTH", "8")
        for worker, number, metric in ((bo, 4, 3.183), (cy, 4, 3.187)):
            past.measure(worker, made[number].commit_sha, metric)
        adopt, combine, ablate = JobKind.ADOPT, JobKind.COMBINE, JobKind.ABLATE
        others = "steps of other lines", "#2, #3", CHANGE
        add(bo, 4, 3.160, "Adopt #2", *others, {2: DONE, 3: CONFLICT}, -0.07, kind=adopt)
        add(cy, 4, 3.120, "Adopt #2, #3", *others, {2: DONE, 3: DONE}, -0.07, kind=adopt)
        add(ada, 6, 3.150, "Combine", "several constants", "DEPTH 8 -> 9", CHANGE, {}, -0.01, {"DEPTH": 9}, combine)
        add(bo, 6, 3.210, "Without #1", "steps of this line", "#1", CHANGE, {1: DONE}, kind=ablate)
        add(ada, 6, None, "WIDTH 3 -> 9", "WIDTH", "9", **crash())
        add(ada, 9, 3.100, "LEARNING_RATE 0.004 -> 0.002", "LEARNING_RATE", "0.002", DOWN)
        past.measure(bo, made[10].commit_sha, 3.105)
        add(cy, 0, 3.310, "DEPTH 4 -> 3", "DEPTH", "3", DOWN)
        for worker, metric in ((bo, 3.186), (bo, 3.190), (bo, 3.188), (cy, 3.192)):
            past.measure(worker, made[4].commit_sha, metric, JobKind.CONFIRM)


@pytest.fixture
def swarm(database_url: str, tmp_path: Path) -> Iterator[tuple[str, Database]]:
    application = create_app(CoordinatorSettings(database_url=database_url))
    with serve(application) as server:
        fill(application.state.database, tmp_path)
        yield server.url, application.state.database


def read_from(url: str) -> Get:
    return lru_cache(None)(lambda path: httpx.get(f"{url}/api/v1{path}", timeout=60).json())


def pool_runs(evidence: dict[str, Any]) -> tuple[float, float]:
    """Mean and sd of a commit's runs that its posterior rests on."""
    mean, sd = pool_workers(evidence, [run for run in evidence["runs"] if run["is_in_posterior"]])
    return mean, sd * evidence["scatter"]


def pool_workers(evidence: dict[str, Any], some: list[Any]) -> tuple[float, float]:
    """Mean and sd of runs: workers' means, weighted by precision."""
    by_worker: dict[str, list[Any]] = {}
    for run in some:
        by_worker.setdefault(run["worker"], []).append(run)
    found = np.array(
        [
            (
                np.mean([run["read_as"] for run in runs]),
                evidence["noise_sd"] ** 2 / len(runs) + np.mean([run["offset"]["sd"] for run in runs]) ** 2,
            )
            for runs in by_worker.values()
        ]
    )
    precision = 1 / found[:, 1]
    return float(found[:, 0] @ precision / precision.sum()), float(precision.sum() ** -0.5)


def density(x: float, variance: float) -> float:
    return float(np.exp(-x * x / (2 * variance)) / np.sqrt(2 * np.pi * variance))


def count_steps(experiment: dict[str, Any]) -> int:
    taken = sum(step["fate"] == "done" for step in experiment["steps"])
    return max(1, taken) if experiment["kind"] in ("adopt", "combine") else 1


def walk(get: Get, number: int) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The joint normal of all measured commits from the seed (0) to an experiment: their numbers, means, covariance."""
    seed, *line = get(f"/lineage/{number}")["items"][::-1]
    ids, mean = [0], np.array([seed["posterior"]["metric_mean"]])
    covariance, steps = np.array([[seed["posterior"]["metric_sd"] ** 2]]), 0
    for one in line:
        steps += count_steps(get(f"/experiments/{one['experiment_id']}"))
        if one["posterior"] is None:
            continue
        evidence = get(f"/experiments/{one['experiment_id']}/evidence")
        prior, (measured, sd) = evidence["effect_prior"], pool_runs(evidence)
        parts = []
        for scale in (1, 4):
            spread = np.block([[covariance, covariance[:, -1:]], [covariance[-1:], covariance[-1:, -1:]]])
            spread[-1, -1] += steps * (scale * prior["sd"]) ** 2
            expected = np.append(mean, mean[-1] + steps * prior["mean"])
            variance, surprise = spread[-1, -1] + sd**2, measured - expected[-1]
            gain = spread[:, -1] / variance
            parts.append((expected + gain * surprise, spread - np.outer(gain, spread[-1]), density(surprise, variance)))
        narrow, wide = parts
        odds = np.array([(1 - prior["tail_share"]) * narrow[2], prior["tail_share"] * wide[2]])
        share = odds[1] / odds.sum()
        between = wide[0] - narrow[0]
        mean = narrow[0] + share * between
        covariance = (1 - share) * narrow[1] + share * wide[1] + share * (1 - share) * np.outer(between, between)
        ids, steps = [*ids, one["experiment_id"]], 0
    return ids, mean, covariance


def subtract(mean: np.ndarray, covariance: np.ndarray, above: int) -> tuple[float, float]:
    """The last minus another one: mean and sd."""
    variance = covariance[-1, -1] + covariance[above, above] - 2 * covariance[above, -1]
    return float(mean[-1] - mean[above]), float(variance**0.5)


def in_words(mean: float, sd: float, sign: str = "+") -> str:
    """`−0.0145 ± 0.0087`: the sd to two significant digits."""
    places = max(0, 1 - floor(log10(sd)))
    return f"{mean:{sign}.{places}f} ± {sd:.{places}f}".replace("-", "\N{MINUS SIGN}")


def read_page(url: str, path: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", httpx.get(url + path, timeout=60).text)).split())


def numbers_of(posterior: dict[str, Any], name: str) -> tuple[float, float]:
    return posterior[f"{name}_mean"], posterior[f"{name}_sd"]


def test_posteriors_of_all_kinds_of_steps_are_those_of_the_model(swarm: tuple[str, Database]) -> None:
    url, database = swarm
    check_posteriors(read_from(url), learnt=False)
    assert end_epochs(database, always=True)
    check_posteriors(read_from(url), learnt=True)


def check_posteriors(get: Get, *, learnt: bool) -> None:
    known = {number: get(f"/experiments/{number}")["posterior"] for number in range(1, LAST + 1)}
    assert known.pop(9) is None and len({one["verdict"] for one in known.values()}) >= 3
    verified = {number for number, one in known.items() if one["standing"] == "verified"}
    assert verified == {1, 4}
    assert learnt == bool(get("/experiments/6/evidence")["effect_prior"]["tail_share"])
    seed = get("/lineage/1")["items"][-1]["sha"]
    for number, posterior in known.items():
        ids, mean, covariance = walk(get, number)
        anchor = max(at for at, one in enumerate(ids[:-1]) if one == 0 or one in verified)
        effect, milestone = (subtract(mean, covariance, at) for at in (len(ids) - 2, anchor))
        metric = float(mean[-1]), float(covariance[-1, -1] ** 0.5)
        for name, found in (("metric", metric), ("effect", effect), ("milestone", milestone)):
            assert numbers_of(posterior, name) == pytest.approx(found, rel=1e-6), (number, name)
        for at, other in enumerate(ids[:-1] if number in SOME else ()):
            (there,) = get(f"/compare?project=tiny&a={other or seed}&b={number}")["classes"]
            (back,) = get(f"/compare?project=tiny&a={number}&b={other or seed}")["classes"]
            above = there["a"]
            apart = (
                posterior["metric_mean"] - above["metric_mean"],
                np.hypot(posterior["metric_sd"], above["metric_sd"]),
            )
            wanted = {len(ids) - 2: effect, anchor: milestone}.get(at, apart)
            assert numbers_of(there, "difference") == pytest.approx(wanted, rel=1e-6), (other, number)
            assert -back["difference_mean"] == there["difference_mean"]
    check_levels(get)


def check_levels(get: Get) -> None:
    """DEPTH by value: generalised least squares of steps, of which those from one parent share its error."""
    topic = get("/topics/tiny/depth")
    told = []
    for one in topic["effects"]:
        evidence = get(f"/experiments/{one['experiment_id']}/evidence")
        parent = get(f"/lineage/{one['experiment_id']}")["items"][1]
        above = parent["posterior"]
        mean, sd = pool_runs(evidence)
        told.append((float(one["old_value"]), float(one["value"]), mean - above["metric_mean"], sd, above["metric_sd"],
                     parent["sha"], one["direction"]))  # fmt: skip
    free = sorted({value for row in told for value in row[:2]} - {4.0})
    design = np.array([[(row[1] == value) - (row[0] == value) for value in free] for row in told], float)
    errors = np.array([[(a is b) * a[3] ** 2 + (a[5] == b[5]) * a[4] ** 2 for b in told] for a in told])
    weights = np.linalg.inv(errors)
    covariance = np.linalg.inv(design.T @ weights @ design)
    levels = covariance @ design.T @ weights @ np.array([row[2] for row in told])
    found = {one["value"]: (one["mean"], one["sd"]) for one in topic["levels"] if one["value"] != 4}
    for at, value in enumerate(free):
        assert found[value] == pytest.approx((levels[at], covariance[at, at] ** 0.5), rel=1e-6), value


@ON_ONE_ENGINE
def test_pages_commands_tools_and_exports_say_what_the_api_says(swarm: tuple[str, Database]) -> None:
    url, _ = swarm
    get = read_from(url)
    rows = httpx.get(f"{url}/api/v1/projects/tiny/export/experiments.csv", timeout=60).text
    exported = {int(row["id"]): row for row in csv.DictReader(io.StringIO(rows))}
    tree = read_page(url, "/projects/tiny/tree")
    with Client(url) as client:
        server = make_server(client, "tiny")

        def ask(tool: str, **given: Any) -> str:
            return str(anyio.run(lambda: server.call_tool(tool, given))[0].text)  # type: ignore[index,union-attr]

        for number in SOME:
            posterior = get(f"/experiments/{number}")["posterior"]
            effect, size = in_words(*numbers_of(posterior, "effect")), in_words(*numbers_of(posterior, "effect"), "")
            metric = in_words(*numbers_of(posterior, "metric"), "")
            claim = f"{'better' if effect[0] != '+' else 'worse'} by {size.lstrip(chr(0x2212))}"
            for name in ("metric_mean", "metric_sd", "effect_mean", "effect_sd"):
                assert float(exported[number][name]) == posterior[name], (number, name)
            said = {
                "page": read_page(url, f"/experiments/{number}"), "finding": read_page(url, f"/findings/{number}"),
                "show": run(url, "show", number), "lineage": run(url, "lineage", number),
                "tool": ask("paper", finding_id=number), "tool's lineage": ask("lineage", commit=str(number)),
                "tree": tree,
            }  # fmt: skip
            for where, text in said.items():
                assert effect in text, (number, where, effect)
            for where in ("page", "finding", "show", "lineage"):
                assert metric in said[where], (number, where, metric)
            if posterior["verdict"] in ("improved", "worse"):
                for text in (said["tool"], said["show"], run(url, "show", number, "--bibtex")):
                    assert claim in text, (number, claim)
        for a, b in ((4, 6), (6, 10), (2, 3), (10, 1)):
            (found,) = get(f"/compare?project=tiny&a={a}&b={b}")["classes"]
            difference = in_words(*numbers_of(found, "difference"))
            page = read_page(url, f"/compare?ids={a},{b}")
            assert f"#{b} minus that of #{a}: {difference} on" in page, page
            for text in (run(url, "compare", a, b), run(url, "diff", a, b), ask("diff", a=str(a), b=str(b))):
                assert difference in text, (a, b, text)
            document = json.loads(run(url, "compare", a, b, "--json", "classes"))
            assert document["classes"] == [found]
        (record,) = get("/records")["items"]
        leader = record["leader"]["posterior"]
        evidence = get("/experiments/4/evidence")
        published = pool_workers(evidence, [one for one in evidence["runs"] if one["kind"] == "confirm"])
        assert numbers_of(record["record"]["confirmation"], "metric") == pytest.approx(published)
        assert (float(exported[4]["published_mean"]), float(exported[4]["published_sd"])) == pytest.approx(published)
        assert f"as a record {in_words(*published, '')} , by 4 runs" in read_page(url, "/experiments/4")
        for text in (run(url, "records"), ask("records"), read_page(url, "/projects/tiny")):
            assert in_words(*numbers_of(leader, "metric"), "") in text
            assert in_words(*published, "") in text, "a record's number is that of its confirmation runs"


def run(url: str, *arguments: object) -> str:
    environment = {"SWARM_COORDINATOR_URL": url, "COLUMNS": "200", "TERM": "dumb"}
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)
    assert done.exit_code == 0, done.output
    return done.output


@ON_ONE_ENGINE
def test_a_path_adds_up_and_what_was_left_out_is_no_part(swarm: tuple[str, Database]) -> None:
    url, _ = swarm
    get = read_from(url)
    _, mean, _ = walk(get, 4)
    tree = read_page(url, "/projects/tiny/tree")
    seed, record = (get("/lineage/4")["items"][at]["posterior"] for at in (-1, 0))
    assert f"unchanged {in_words(*numbers_of(seed, 'metric'), '')}" in tree, "the first bar is the seed's metric"
    assert f"as all runs tell it {in_words(*numbers_of(record, 'metric'), '')}" in tree
    assert record["metric_mean"] == pytest.approx(mean[-1])
    half, whole, combined = (get(f"/findings/{number}") for number in (5, 6, 7))
    assert half["parts"] == ["#2 LEARNING_RATE 0.003 -> 0.004"]
    assert (half["predicted_sum"], half["interaction_mean"], half["interaction_sd"]) == (None, None, None)
    effect = whole["summary"]["posterior"]["effect_mean"]
    assert len(whole["parts"]) == 2 and whole["interaction_mean"] == pytest.approx(effect + 0.07)
    assert combined["parts"] == ["DEPTH = 9"] and combined["predicted_sum"] == -0.01
    assert "expected to add up to \N{MINUS SIGN}0.07" in read_page(url, "/findings/6")
    assert "add up to" not in read_page(url, "/findings/5")
    page = read_page(url, "/experiments/10")
    assert "Effect against the nearest measured ancestor" in page and "against its nearest measured ancestor: " in page
    assert "Effect against the parent" in read_page(url, "/experiments/6")
