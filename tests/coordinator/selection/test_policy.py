"""The policy, on snapshots."""

from collections import Counter
from dataclasses import replace
from random import Random

from coordinator.evidence.promotion import PromotionJob
from coordinator.selection.policy import RUNS_OF_A_RECORD, SEED_WORKERS, Candidate, Decision, NoJob, Snapshot, decide
from shared.contract import JobMix
from shared.experiments import JobKind

ROOT = "r" * 40


def snapshot(*candidates: Candidate, measured: int = 1, failed: int = 0, done: int = 0) -> Snapshot:
    return Snapshot(ROOT, measured, failed, done, candidates, JobMix())


def draw(of: Snapshot, times: int = 400) -> Counter[str]:
    rng = Random(1)
    decisions = [decide(of, rng) for _ in range(times)]
    assert all(isinstance(decision, Decision) for decision in decisions)
    return Counter(decision.base_sha for decision in decisions if isinstance(decision, Decision))


def test_a_newcomer_measures_the_root_first() -> None:
    decision = decide(snapshot(Candidate("a", 3.0, 0.01, 1, 0), measured=0), Random(1))
    assert isinstance(decision, Decision)
    assert (decision.kind, decision.base_sha) == (JobKind.REPLICATE, ROOT)


def test_only_the_first_workers_of_a_class_begin_with_the_seed() -> None:
    known = Candidate("a", 3.0, 0.01, 1, 0)
    for before, first in ((SEED_WORKERS - 1, ROOT), (SEED_WORKERS, "a")):
        decision = decide(replace(snapshot(known, measured=0), seed_workers=before), Random(1))
        assert isinstance(decision, Decision) and decision.base_sha == first
        assert decision.kind.makes_experiment == (first == "a")


def test_while_the_seed_is_measured_others_start_from_it() -> None:
    waiting = replace(snapshot(measured=0), seed_workers=SEED_WORKERS, has_results=False)
    decision = decide(waiting, Random(1))
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.IMPROVE, ROOT)
    measures = decide(replace(waiting, kinds=frozenset()), Random(1))
    assert isinstance(measures, Decision) and measures.kind is JobKind.REPLICATE
    assert isinstance(decide(replace(waiting, has_results=True), Random(1)), NoJob), "all is held"


def test_a_worker_that_fails_measures_the_seed_and_then_gets_nothing() -> None:
    """Else nothing would show that the fault is the machine's and not the commits'."""
    late = replace(snapshot(Candidate("a", 3.0, 0.01, 1, 0), measured=0), seed_workers=50)
    for failures, base in ((1, "a"), (2, ROOT)):
        decision = decide(replace(late, failures_in_row=failures), Random(1))
        assert isinstance(decision, Decision) and decision.base_sha == base
    assert isinstance(decide(replace(late, failures_in_row=5, root_failed=3), Random(1)), NoJob)


def test_a_worker_without_shared_commits_gets_a_control_before_its_turn() -> None:
    known = Candidate("a", 3.0, 0.01, 2, 0)
    stranger = replace(snapshot(known, measured=0, done=4), seed_workers=50, is_alone=False, needs_control=True)
    decision = decide(stranger, Random(1))
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.CONTROL, "a")
    for other in (replace(stranger, needs_control=False), replace(stranger, own={"a": 1})):
        decision = decide(other, Random(1))
        assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE


def test_after_three_failures_of_the_root_there_is_no_job() -> None:
    assert isinstance(decide(snapshot(measured=0, failed=2), Random(1)), Decision)
    assert isinstance(decide(snapshot(measured=0, failed=3), Random(1)), NoJob)


def test_the_better_commit_is_drawn_more_often_and_the_other_not_never() -> None:
    drawn = draw(snapshot(Candidate("good", 3.20, 0.01, 1, 0), Candidate("fair", 3.21, 0.01, 1, 0)))
    assert drawn["good"] > drawn["fair"] > 20


def test_a_clearly_worse_commit_is_left_alone() -> None:
    assert draw(snapshot(Candidate("good", 3.2, 0.005, 2, 0), Candidate("bad", 3.4, 0.005, 2, 0)))["bad"] == 0


def test_children_in_flight_spread_the_fleet() -> None:
    free = draw(snapshot(Candidate("good", 3.20, 0.01, 1, 0), Candidate("fair", 3.21, 0.01, 1, 0)))
    busy = draw(snapshot(Candidate("good", 3.20, 0.01, 1, 9), Candidate("fair", 3.21, 0.01, 1, 0)))
    assert busy["fair"] > 2 * free["fair"]


def test_damping_follows_its_formula() -> None:
    """Equal posteriors, one with three children in flight: it is chosen 1/4 as often, so 1 time in 5."""
    drawn = draw(snapshot(Candidate("busy", 3.2, 0.01, 1, 3), Candidate("free", 3.2, 0.01, 1, 0)), times=2000)
    assert 0.17 < drawn["busy"] / 2000 < 0.23


def test_a_busy_frontier_still_gives_a_parent() -> None:
    assert draw(snapshot(Candidate("only", 3.2, 0.01, 1, 10_000)), times=3)["only"] == 3


def test_one_job_in_eight_measures_the_leader_and_a_control_in_turn() -> None:
    leader, other = Candidate("lead", 3.1, 0.005, 1, 0), Candidate("other", 3.3, 0.005, 1, 0)
    kinds = []
    for done in range(32):
        decision = decide_in_swarm(done, leader, other)
        assert isinstance(decision, Decision)
        kinds.append(decision.kind)
        if decision.kind is JobKind.REPLICATE:
            assert decision.base_sha == "lead" and "1 run;" in decision.why
    assert [kind for kind in kinds if kind is not JobKind.IMPROVE] == [JobKind.REPLICATE, JobKind.CONTROL] * 2
    settled = Candidate("lead", 3.1, 0.002, 6, 0)
    decision = decide(snapshot(settled, other, done=7), Random(1))
    assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE


LEADER, OTHER = Candidate("lead", 3.1, 0.005, 1, 0), Candidate("other", 3.3, 0.005, 1, 0)


def decide_in_swarm(done: int, *candidates: Candidate, **changes: object) -> Decision | NoJob:
    """A decision for a worker that is not alone."""
    known = replace(snapshot(*candidates, done=done), is_alone=False)
    return decide(replace(known, **changes), Random(1))  # type: ignore[arg-type]


def test_nobody_verifies_what_is_their_own() -> None:
    decision = decide_in_swarm(7, LEADER, OTHER, own={"lead": 1})
    assert isinstance(decision, Decision) and decision.base_sha != "lead"
    decision = decide_in_swarm(7, LEADER, OTHER)
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "lead")


def test_who_makes_no_experiments_verifies_in_every_turn_and_not_the_seed() -> None:
    """Else a turn that would experiment comes to nothing, and no other turn ever follows it."""
    seed = Candidate(ROOT, 3.0, 0.005, 1, 0)
    for done in range(8):
        decision = decide_in_swarm(done, seed, LEADER, kinds=frozenset(), is_draining=True)
        assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "lead")
        assert isinstance(decide_in_swarm(done, seed, kinds=frozenset(), is_draining=True), NoJob)


def test_verification_waits_for_runs_under_way() -> None:
    busy = LEADER._replace(measured_in_flight=2)
    decision = decide_in_swarm(7, busy, RECORD._replace(sha="other", mean=3.3))
    assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE


RECORD = LEADER._replace(is_settled=True, runs=RUNS_OF_A_RECORD)


def test_a_verified_leader_whose_number_is_sure_needs_no_more_runs() -> None:
    decision = decide_in_swarm(7, RECORD, OTHER)
    assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE


def test_what_the_model_expects_most_of_is_verified_first() -> None:
    decision = decide_in_swarm(7, LEADER, OTHER, expected="other")
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "other")
    decision = decide_in_swarm(7, LEADER, OTHER, expected="gone")
    assert isinstance(decision, Decision) and decision.base_sha == "lead"


def test_the_record_goes_before_what_leads_until_it_rests_on_many_runs() -> None:
    record = RECORD._replace(sha="record", mean=3.2, runs=3)
    worse = RECORD._replace(sha="worse", mean=3.25, runs=3)
    decision = decide_in_swarm(7, LEADER, record, worse)
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "record")
    assert "3 runs" in decision.why
    decision = decide_in_swarm(7, LEADER, record._replace(measured_in_flight=2), worse)
    assert isinstance(decision, Decision) and decision.base_sha == "record", "all of these runs are wanted"
    for changed in (
        record._replace(runs=RUNS_OF_A_RECORD),
        record._replace(runs=RUNS_OF_A_RECORD - 1, measured_in_flight=1),
        record._replace(measured_in_flight=3),
    ):
        decision = decide_in_swarm(7, LEADER, changed, worse)
        assert isinstance(decision, Decision) and decision.base_sha == "lead", "and no other verified one is measured"
    decision = decide_in_swarm(7, LEADER, record, own={"record": 1})
    assert isinstance(decision, Decision) and decision.base_sha == "lead"
    decision = decide_in_swarm(7, LEADER, record, is_alone=True)
    assert isinstance(decision, Decision) and decision.base_sha == "lead", "one's own runs share one's offset's error"
    decision = decide_in_swarm(6, LEADER, record)
    assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE, "it is not this worker's turn"


def test_controls_measure_what_others_measured() -> None:
    decision = decide_in_swarm(15, LEADER, OTHER, own={"lead": 1})
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.CONTROL, "other")


def test_who_works_alone_measures_the_seed_until_it_is_known_like_the_leader() -> None:
    known = LEADER._replace(runs=3)
    decision = decide_in_swarm(15, known, OTHER, is_alone=True, root_measured=2)
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.CONTROL, ROOT)
    decision = decide_in_swarm(15, known, OTHER, is_alone=True, root_measured=3)
    assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE


def test_what_an_authors_trust_makes_due_goes_before_a_control() -> None:
    decision = decide_in_swarm(15, LEADER, OTHER, due=["claim", "later"])
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "claim")
    decision = decide_in_swarm(7, LEADER, OTHER, due=["claim"])
    assert isinstance(decision, Decision) and decision.base_sha == "lead", "verification goes before both"
    decision = decide_in_swarm(7, RECORD, OTHER, due=["claim"])
    assert isinstance(decision, Decision) and decision.base_sha == "claim"
    decision = decide_in_swarm(6, LEADER, OTHER, due=["claim"])
    assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE, "it is not this worker's turn"


def test_confirming_costs_no_experiments_and_leaves_anchors_turns_to_verify() -> None:
    """A record that waits for ever, as where every confirmation comes to nothing."""
    for is_anchor in (False, True):
        kinds = Counter[JobKind]()
        for turn in range(400):
            decision = decide_in_swarm(turn, LEADER, to_confirm="record", is_anchor=is_anchor)
            assert isinstance(decision, Decision) and (decision.kind is not JobKind.CONFIRM or not decision.is_check)
            kinds[decision.kind] += 1
        without = [decide_in_swarm(turn, LEADER, is_anchor=is_anchor) for turn in range(400)]
        experiments = sum(isinstance(one, Decision) and one.kind.makes_experiment for one in without)
        assert kinds[JobKind.IMPROVE] == experiments and kinds[JobKind.CONFIRM] > 0
        assert kinds[JobKind.CONFIRM] <= (200 if is_anchor else 400 / 16), "no more than verifying would have"


PROMOTION = PromotionJob("long", "record", ROOT, "record")


def test_promoting_takes_turns_that_would_verify_and_leaves_anchors_some() -> None:
    for is_anchor in (False, True):
        kinds = Counter[JobKind]()
        for turn in range(400):
            decision = decide_in_swarm(turn, LEADER, to_promote=PROMOTION, is_anchor=is_anchor)
            assert isinstance(decision, Decision)
            assert decision.kind is not JobKind.PROMOTE or (decision.promotion, decision.is_check) == (PROMOTION, False)
            kinds[decision.kind] += 1
        assert kinds[JobKind.PROMOTE] > 0 and (kinds[JobKind.REPLICATE] > 0) == is_anchor
        assert kinds[JobKind.PROMOTE] <= (200 if is_anchor else 400 / 16)
    decision = decide_in_swarm(7, LEADER, to_promote=PROMOTION, to_confirm="record")
    assert isinstance(decision, Decision) and decision.kind is JobKind.CONFIRM, "the published number goes first"


def test_the_second_run_of_a_pair_is_the_workers_next_job_in_any_turn() -> None:
    half = PROMOTION._replace(measured=ROOT, seed=7, pace=1.0)
    for turn in range(16):
        decision = decide_in_swarm(turn, LEADER, to_promote=half, to_confirm="record", due=["claim"])
        assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.PROMOTE, ROOT)
    assert isinstance(decide_in_swarm(7, LEADER, to_promote=half, quarantine="it lies"), NoJob)


def test_an_anchor_verifies_whenever_there_is_something_to_verify() -> None:
    decision = decide_in_swarm(3, LEADER, OTHER, is_anchor=True)
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "lead")
    decision = decide_in_swarm(3, RECORD, OTHER, is_anchor=True)
    assert isinstance(decision, Decision) and decision.kind is JobKind.IMPROVE


def test_liars_do_not_keep_an_anchor_busy() -> None:
    """Disputes and results of doubted authors are settled by others first, and the anchor has time for the honest."""
    made_up = [Candidate(f"lie-{n}", 2.9, 0.01, 2, 0, is_disputed=n % 2 == 0, is_suspect=n % 2 == 1) for n in range(6)]
    asked = decide_in_swarm(3, *made_up, LEADER, OTHER, is_anchor=True)
    assert isinstance(asked, Decision) and (asked.kind, asked.base_sha) == (JobKind.REPLICATE, "lead")
    believed = [one._replace(is_disputed=False, is_suspect=False) for one in made_up]
    asked = decide_in_swarm(3, *believed, LEADER, OTHER, is_anchor=True)
    assert isinstance(asked, Decision) and asked.base_sha.startswith("lie"), "what nobody doubts goes by its number"
    other = decide_in_swarm(7, *made_up, LEADER, OTHER)
    assert isinstance(other, Decision) and other.base_sha.startswith("lie"), "other volunteers settle them"
    left = decide_in_swarm(3, *made_up, is_anchor=True)
    assert isinstance(left, Decision) and left.base_sha.startswith("lie"), "the anchor does too, with nothing else"


def test_what_fails_for_all_but_its_author_does_not_hide_what_is_behind_it() -> None:
    """A volunteer tries each once. Runs that failed are in `own`, too, and such commits are never settled."""
    for is_anchor in (False, True):
        made_up = [Candidate(f"lie-{n}", 2.9, 0.01, 1, 0) for n in range(6)]
        own = {one.sha: 1 for one in made_up}
        asked = decide_in_swarm(7, *made_up, LEADER, OTHER, own=own, is_anchor=is_anchor)
        assert isinstance(asked, Decision) and (asked.kind, asked.base_sha) == (JobKind.REPLICATE, "lead")


def test_an_anchor_runs_once_more_what_failed_there_and_ran_with_another() -> None:
    """Its first failure may be chance. Nobody else's word is enough, and the anchor is not asked for ever."""
    for runs, own, is_asked in ((1, 1, False), (2, 1, True), (2, 2, False), (6, 1, True)):
        suspect = LEADER._replace(runs=runs, is_suspect=True)
        asked = decide_in_swarm(7, suspect, is_anchor=True, own={suspect.sha: own})
        assert isinstance(asked, Decision) and (asked.kind is JobKind.REPLICATE) == is_asked
    believed = decide_in_swarm(7, LEADER._replace(runs=2), is_anchor=True, own={LEADER.sha: 1})
    assert isinstance(believed, Decision) and believed.kind is not JobKind.REPLICATE


def test_what_leads_elsewhere_keeps_no_anchor_from_verifying() -> None:
    """Whoever invents a class leads there at will."""
    decision = decide_in_swarm(15, LEADER, OTHER, elsewhere="far", is_anchor=True)
    assert isinstance(decision, Decision) and decision.base_sha == LEADER.sha


def test_an_anchor_measures_again_what_its_runs_do_not_find_yet() -> None:
    leader = LEADER._replace(is_settled=True, is_corroborated=True, runs=3)
    own = {leader.sha: 1, OTHER.sha: 1}
    base = decide_in_swarm(15, leader, OTHER, is_anchor=True, own=own, bases={leader.sha: ROOT})
    assert isinstance(base, Decision) and base.base_sha == ROOT, "from which its gain is counted"
    for runs in (3, 6, 12):
        decision = decide_in_swarm(15, leader._replace(runs=runs), OTHER, is_anchor=True, own=own)
        assert isinstance(decision, Decision) and decision.base_sha == leader.sha, "others' runs are not its own"
    full = decide_in_swarm(15, leader._replace(runs=6), OTHER, is_anchor=True, own=own | {leader.sha: 6})
    assert not (isinstance(full, Decision) and full.kind is JobKind.REPLICATE and full.base_sha == leader.sha)


def test_an_anchor_measures_the_seed_before_it_verifies_anything() -> None:
    """Else gains would be counted from what strangers say of the seed, however many of them measured it before."""
    for is_waiting, base in ((True, ROOT), (False, LEADER.sha)):
        decision = decide_in_swarm(15, LEADER, OTHER, is_anchor=True, seed_waits=is_waiting)
        assert isinstance(decision, Decision) and decision.base_sha == base
    broken = replace(snapshot(LEADER, OTHER, failed=3), is_anchor=True, is_alone=False, seed_waits=True)
    assert isinstance(other := decide(broken, Random(1)), Decision) and other.base_sha != ROOT


def test_a_commit_that_verification_gave_up_on_does_not_hold_up_those_behind_it() -> None:
    given_up = LEADER._replace(runs=6)
    for own, is_anchor in (({}, False), ({given_up.sha: 1}, True)):
        decision = decide_in_swarm(7, given_up, OTHER, is_anchor=is_anchor, own=own)
        assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "other")
    alone = decide_in_swarm(7, given_up, OTHER, is_alone=True)
    assert isinstance(alone, Decision) and alone.kind is not JobKind.REPLICATE, "a lone worker has other things to do"


def test_what_leads_elsewhere_is_measured_here() -> None:
    decision = decide_in_swarm(15, LEADER, OTHER, elsewhere="far")
    assert isinstance(decision, Decision) and (decision.kind, decision.base_sha) == (JobKind.REPLICATE, "far")


def test_suspects_are_no_parents_but_are_tested_again() -> None:
    suspect = LEADER._replace(is_suspect=True)
    for done in range(7):
        decision = decide_in_swarm(done, suspect, OTHER, is_alone=True)
        assert isinstance(decision, Decision) and decision.base_sha == "other"
    decision = decide_in_swarm(7, suspect, OTHER)
    assert isinstance(decision, Decision) and decision.base_sha == "lead"


def test_five_failures_in_a_row_are_answered_with_a_pause() -> None:
    paused = decide_in_swarm(9, LEADER, failures_in_row=5, seconds_since_run=60.0)
    assert isinstance(paused, NoJob) and "5 runs failed" in paused.reason and 0 < paused.retry_after_seconds < 900
    assert isinstance(decide_in_swarm(9, LEADER, failures_in_row=5, seconds_since_run=901.0), Decision)
    assert isinstance(decide_in_swarm(9, LEADER, failures_in_row=4, seconds_since_run=60.0), Decision)


def test_quarantine_gives_no_job_and_says_why() -> None:
    decision = decide_in_swarm(2, LEADER, quarantine="its numbers do not repeat")
    assert isinstance(decision, NoJob) and "do not repeat" in decision.reason
