"""worker/agents/search.py"""

import math
import random

import pytest

from shared.experiments import AxisDirection, Setting, Trial
from shared.runs import RunOutcome
from tests.support.messages import make_run
from tests.worker.agents.tasks import TRAIN, make_task, make_trial, settings_of, sha_of
from worker.agents.base import AgentError
from worker.agents.search import SearchAgent
from worker.agents.search_space import read_spaces

SPACES = read_spaces(TRAIN)
ROOT = make_trial("root", 3.3)


def loss(settings: dict[str, Setting], rng: random.Random) -> float:
    """A valley: the best learning rate is 0.01, the best depth 6."""
    rate, depth = float(settings["LEARNING_RATE"]), int(settings["DEPTH"])
    return 3.2 + 0.1 * math.log10(rate / 0.01) ** 2 + 0.01 * (depth - 6) ** 2 + rng.gauss(0, 0.002)


def test_changes_one_constant_or_two_and_says_which() -> None:
    singles = 0
    for seed in range(40):
        draft = SearchAgent().propose(make_task([ROOT], seed))
        before, after = settings_of(), settings_of(draft.files["train.py"])
        changed = [name for name in before if before[name] != after[name]]
        assert 1 <= len(changed) <= 2
        assert "SEQUENCE_LENGTH" not in changed and "NAME" not in changed
        assert draft.proposal.settings == after
        assert set(draft.proposal.axis.split(" and ")) == set(changed)
        assert all(f"{name} {before[name]!r} -> {after[name]!r}" in draft.proposal.title for name in changed)
        if len(changed) == 1:
            singles += 1
            number = changed[0] not in ("HEADS", "USE_BIAS")
            assert not number or (draft.proposal.direction is AxisDirection.UP) == (
                after[changed[0]] > before[changed[0]]
            )  # type: ignore[operator]
    assert singles > 20


def test_the_same_task_gives_the_same_draft_and_another_seed_another() -> None:
    trials = [ROOT, *(make_trial(f"t{i}", 3.3 + i / 100, DEPTH=i) for i in range(1, 8))]
    drafts = [SearchAgent().propose(make_task(trials, seed)) for seed in (5, 5, 6, 7, 8)]
    assert drafts[0] == drafts[1]
    assert len({d.proposal.title for d in drafts}) > 2


@pytest.mark.parametrize("outcome", ["ok", "running", "crashed"])
def test_never_repeats_a_trial_whoever_made_it_and_however_it_ended(outcome: str) -> None:
    source = "DEPTH = 2  # choices: 1, 2, 3\nFLAG = True\n"
    metric = 3.3 if outcome == "ok" else None
    taken = [(1, True), (3, True), (1, False), (3, False)]
    trials = [ROOT] + [
        make_trial(f"{d}{f}", metric, outcome, "root").model_copy(update={"settings": {"DEPTH": d, "FLAG": f}})
        for d, f in taken
    ]
    left = SearchAgent().propose(make_task(trials, 3, source))
    assert left.proposal.settings == {"DEPTH": 2, "FLAG": False}
    with pytest.raises(AgentError, match="tried already"):
        SearchAgent().propose(make_task(trials, 3, source, refused=(left,)))


def test_learns_from_the_trials_of_others() -> None:
    """After the swarm has mapped the valley, proposals go towards its ground much more often than at random."""
    rng = random.Random(0)
    trials: list[Trial] = [ROOT]
    for i in range(40):
        rate = 10 ** rng.uniform(-4, -1.53)
        trials.append(make_trial(f"t{i}", loss(settings_of(LEARNING_RATE=rate), rng), LEARNING_RATE=rate))
    drafts = [SearchAgent().propose(make_task(trials, seed)) for seed in range(60)]
    rates = [float(d.proposal.settings["LEARNING_RATE"]) for d in drafts if "LEARNING_RATE" in d.proposal.axis]
    assert len(rates) >= 5
    assert sum(0.005 < rate < 0.02 for rate in rates) / len(rates) > 0.6  # 24 % of the range on its scale


def test_a_search_gets_better() -> None:
    rng = random.Random(1)
    trials, sources = [ROOT.model_copy(update={"metric_mean": loss(settings_of(), rng)})], {sha_of("root"): TRAIN}
    for seed in range(30):
        best = min(trials, key=lambda t: t.metric_mean or math.inf)
        task = make_task(trials, seed, sources[best.sha], metric=best.metric_mean)
        draft = SearchAgent().propose(task)
        trial = make_trial(f"t{seed}", loss(dict(draft.proposal.settings), rng), parent="root")
        trials.append(trial.model_copy(update={"settings": draft.proposal.settings, "parent_sha": best.sha}))
        sources[trial.sha] = draft.files["train.py"]
    start, end = trials[0].metric_mean, min(t.metric_mean or math.inf for t in trials)
    assert start is not None
    assert start - end > 0.04  # the way to the ground is 0.067


def test_predicts_what_moves_that_way_did_before() -> None:
    up = make_trial("up", 3.4, parent="root", DEPTH=6)
    source = "\n".join(line for line in TRAIN.splitlines() if line.startswith(("DEPTH", "NAME")))
    trials = [t.model_copy(update={"settings": {"DEPTH": t.settings["DEPTH"], "NAME": "tiny"}}) for t in (ROOT, up)]
    predictions = {
        d.proposal.direction: d.proposal.predicted_effect
        for d in (SearchAgent().propose(make_task(trials, seed, source)) for seed in range(20))
    }
    assert predictions[AxisDirection.UP] == pytest.approx(0.1)
    assert predictions[AxisDirection.DOWN] == pytest.approx(-0.002)  # never tried: the smallest effect that matters


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "no constant to search"),
        ("def f(:\n", "not valid Python"),
        ("A = 'text'\n", "no constant to search"),
    ],
)
def test_says_why_there_is_nothing_to_search(source: str, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        SearchAgent().propose(make_task(source=source))


def test_needs_an_editable_python_file() -> None:
    with pytest.raises(AgentError, match="no editable Python file"):
        SearchAgent().propose(make_task(files={"notes.md": "A = 1"}))


@pytest.mark.parametrize(
    ("metric", "reason", "claim", "caveat"),
    [
        (3.25, "", "{result}", "{replication}"),
        (None, "heads must divide width", "crashed", "One attempt"),
    ],
)
def test_writes_an_honest_finding(metric: float | None, reason: str, claim: str, caveat: str) -> None:
    task = make_task([ROOT])
    draft = SearchAgent().propose(task)
    finding = SearchAgent().write_finding(task, draft, make_run(sha_of("child"), metric, reason=reason))
    assert claim in finding.claim
    assert draft.proposal.axis.split(" and ")[0] in finding.claim
    assert caveat in finding.caveats
    assert reason in finding.mechanism


def test_a_finding_tells_what_the_trials_show_and_what_to_try_next() -> None:
    rng = random.Random(1)
    trials = [ROOT]
    for number in range(14):
        task = make_task(trials, seed=number)
        draft = SearchAgent().propose(task)
        metric = loss(dict(draft.proposal.settings), rng)
        finding = SearchAgent().write_finding(task, draft, make_run(sha_of(f"child {number}"), metric))
        if number == 0:
            assert finding.mechanism == "" and "Next for" not in finding.follow_ups, "four trials are too few to say"
        if " and " in draft.proposal.axis:
            assert "changed together" in finding.caveats and "alone was not tried" in finding.follow_ups
        trials.append(make_trial(f"child {number}", metric, parent="root", **draft.proposal.settings))
    name = draft.proposal.axis.split(" and ")[0]
    assert f"{name} ranks " in finding.mechanism and "PED-ANOVA over 15 measured trials" in finding.mechanism
    assert f"Next for {name}: " in finding.follow_ups
    suggested = finding.follow_ups.split(f"Next for {name}: ")[1].split(",")[0]
    assert all(repr(one.settings[name]) != suggested for one in trials), "it is a value that no trial has"


def test_two_constants_that_were_tried_alone_tell_their_interaction() -> None:
    task = next(
        task
        for task in (make_task([ROOT], seed) for seed in range(80))
        if " and " in SearchAgent().propose(task).proposal.axis
    )
    draft = SearchAgent().propose(task)
    names = draft.proposal.axis.split(" and ")
    alone = [make_trial(name, 3.29, parent="root", **{name: draft.proposal.settings[name]}) for name in names]
    finding = SearchAgent().write_finding(make_task([ROOT, *alone], task.seed), draft, make_run(sha_of("child"), 3.25))
    assert "together -0.05. The interaction is the difference, -0.03" in finding.mechanism
    assert "alone was not tried" not in finding.follow_ups


def test_a_finding_stays_short_whatever_the_reason() -> None:
    task = make_task([ROOT])
    draft = SearchAgent().propose(task)
    report = make_run(sha_of("child"), None, outcome=RunOutcome.TIMEOUT, reason="w " * 490)
    finding = SearchAgent().write_finding(task, draft, report)
    assert finding.claim.endswith("timeout")
    assert finding.mechanism.endswith("w …")
