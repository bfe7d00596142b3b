"""The policy: which kind of job, from which commit. Pure: a snapshot and a source of randomness in, a decision out.

The first workers of a hardware class measure the seed as their first job, since all gains are counted from it; so does
a worker whose runs fail. After that most jobs are experiments; by default one in eight measures an existing commit, in
turn the leading one, to verify it, and a control. Any commit that others measured too shows how a worker differs, so
one that began later gets its control when its turn comes, and soon if it has none. A record is confirmed in turns that
would verify, before other commits are, so that it costs no experiments; a promotion takes such turns, too, within a
share of its class's time, and the second run of its pair follows the first. Volunteers do not measure again what
they measured before, and cannot choose what they verify. Anchors, and who makes no experiments, verify in every turn.

Kinds of experiment have shares per project (`job_mix.py`); `parents.py` draws the parent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf
from random import Random

from coordinator.evidence.promotion import PromotionJob
from coordinator.selection.parents import Candidate, ResearchDirection, choose_parent, exceeds
from shared.contract import Diversity, JobMix
from shared.experiments import JobKind
from shared.formatting import count_noun

SEED_WORKERS = 8
"""Number of workers of a class whose first job measures the seed."""

SEED_VOLUNTEERS = 3
"""Number of volunteers who measure the seed, however many workers they name: one of them may be wrong."""

JOBS_BEFORE_CONTROL = 4
"""A worker that shares no commit with others after so many jobs gets a control before its turn."""

FAILURES_EXPLAINED_BY_SEED = 2
"""After so many failures in a row a worker that never ran the seed does: is the fault the commits' or its own?"""

MAX_ROOT_FAILURES = 3
MAX_FAILURES_IN_ROW = 5
THROTTLE_SECONDS = 900.0
CLOSED_SECONDS = 300.0  # after which a worker asks again whose branch a maintainer paused or has not approved
SHARE_SECONDS = 120.0  # after which a volunteer at its largest share may ask again

MIN_FLEET, MIN_VOLUNTEERS = 16, 4
"""Jobs under way, and volunteers on them, from which on no volunteer may hold more than its largest share."""

MAX_RUNS_OF_ONE_COMMIT = 6
LEADERS = 4  # leading commits considered for verification
RUNS_OF_A_RECORD = 6  # that the best verified commit gets, several at once, because its number is published
MAX_MEASURED_AT_ONCE = 2  # live leases that may measure one leader, since each run decides whether another is needed


@dataclass(frozen=True)
class Snapshot:
    """The input of the policy. Counts are of this worker, in this project and its hardware class.

    `turn` counts its jobs, with an offset per worker. `due` are results of others to replicate, longest waiting first.
    `own` counts how often its volunteer measured a commit in the class, or made it, and names those that it may not
    measure; `bases` has what an anchor measures before corroborated leaders, since their gains are counted from it;
    `is_alone` says that nobody else is in the class. `to_confirm` is a commit that it may confirm, `to_promote` a run
    that it may make on a rung. `expected` is the commit that the model of all runs expects most of. `elsewhere` is the
    leading commit of another class, if it leads by more there and nobody measured it here. `jobs_held` are under way.
    `kinds` are those that the worker can do, `shares` the project's shares of them; `chosen` is the branch that the
    volunteer wants. From MIN_FLEET jobs on, `held` counts the volunteer's jobs under way, `fleet` all jobs, and
    `volunteers` those who hold them. `seed_workers` are the class's other workers that measured the seed or do so now;
    `seed_lacks_votes` while fewer than SEED_VOLUNTEERS have, its own volunteer not among them; it waits (`seed_waits`)
    for an anchor, which this worker is; `needs_control` says that the worker shares no commit with others, and should.
    While the class has no posterior, it has no results. While the project `is_draining`, it has no experiments.
    """

    root_sha: str
    root_measured: int
    root_failed: int
    turn: int
    candidates: Sequence[Candidate]
    mix: JobMix
    failures_in_row: int = 0
    seconds_since_run: float = inf
    quarantine: str | None = None
    own: Mapping[str, int] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    is_alone: bool = True
    expected: str | None = None
    to_confirm: str | None = None
    to_promote: PromotionJob | None = None
    elsewhere: str | None = None
    due: Sequence[str] = ()
    is_anchor: bool = False
    jobs_held: int = 0
    rules: Diversity = field(default_factory=Diversity)
    branches: Sequence[ResearchDirection] = ()
    chosen: ResearchDirection | None = None
    last_parent: str | None = None
    kinds: frozenset[JobKind] = frozenset({JobKind.IMPROVE})
    shares: Mapping[JobKind, float] = field(default_factory=dict)
    held: int = 0
    fleet: int = 0
    volunteers: int = 1
    seed_workers: int = 0
    seed_lacks_votes: bool = False
    seed_waits: bool = False
    needs_control: bool = False
    has_results: bool = True
    is_draining: bool = False


@dataclass(frozen=True)
class Decision:
    """A job, and why, in a sentence for people. Without a `branch_id` it belongs to the branch of its base commit.

    A measurement that the volunteer chose, by choosing a branch, is no check of its commit. One on a rung belongs to a
    `promotion`.
    """

    kind: JobKind
    base_sha: str
    why: str
    branch_id: int | None = None
    is_check: bool = True
    promotion: PromotionJob | None = None


@dataclass(frozen=True)
class NoJob:
    """No job, with the reason in a sentence for people."""

    reason: str
    retry_after_seconds: float


def decide(snapshot: Snapshot, rng: Random) -> Decision | NoJob:
    """Choose the next job for a worker."""
    if refusal := _refuse(snapshot):
        return refusal
    if (promote := _promote(snapshot)) and promote.promotion and promote.promotion.seed is not None:
        return promote
    if snapshot.root_measured == 0 and _needs_baseline(snapshot):
        return _calibrate(snapshot)
    if snapshot.seed_waits and snapshot.root_failed < MAX_ROOT_FAILURES:
        why = "Gains are counted from the seed, and no anchor has measured it on this hardware."
        return Decision(JobKind.REPLICATE, snapshot.root_sha, why)
    if not snapshot.candidates:
        if not snapshot.has_results:
            return _start_from_seed(snapshot)
        return NoJob(
            "Every measured commit of this project waits for a maintainer's decision.", retry_after_seconds=300
        )
    return _choose_measurement(snapshot) or _choose_experiment(snapshot, rng)


def _needs_baseline(snapshot: Snapshot) -> bool:
    """Whether a worker that never measured the seed should."""
    if snapshot.seed_workers < SEED_WORKERS or snapshot.seed_lacks_votes or snapshot.chosen is not None:
        return True
    return snapshot.root_failed > 0 or snapshot.failures_in_row >= FAILURES_EXPLAINED_BY_SEED


def _start_from_seed(snapshot: Snapshot) -> Decision:
    """An experiment on the seed while enough others measure it; a run of it by a worker that makes no experiments."""
    kinds = [kind for kind in (JobKind.IMPROVE, JobKind.DRAFT) if kind in snapshot.kinds]
    if not kinds:
        return Decision(JobKind.REPLICATE, snapshot.root_sha, "Nothing else can be measured yet.")
    why = f"The seed, which {count_noun(snapshot.seed_workers, 'other worker')} measure: nothing else is known yet."
    return Decision(kinds[0], snapshot.root_sha, why)


def turn_to_measure(turn: int, mix: JobMix) -> JobKind | None:
    """The kind of measurement that a worker's turn asks for; None where it should experiment."""
    measured = mix.replicate + mix.control
    if measured == 0:
        return None
    period = max(2, round((mix.experiments + measured) / measured))
    before, position = divmod(turn, period)
    if position != period - 1:
        return None
    controls = mix.control / measured
    return JobKind.CONTROL if floor((before + 1) * controls) > floor(before * controls) else JobKind.REPLICATE


def is_near_share(held: int, fleet: int, rules: Diversity) -> bool:
    """Whether a volunteer has reached its largest share, which counts where several are at work."""
    return fleet >= MIN_FLEET and exceeds(rules.max_volunteer, held, fleet)


def _refuse(snapshot: Snapshot) -> NoJob | None:
    if snapshot.quarantine is not None:
        reason = f"A maintainer has put this worker in quarantine: {snapshot.quarantine}"
        return NoJob(reason, retry_after_seconds=THROTTLE_SECONDS)
    is_broken = snapshot.root_measured > 0 and snapshot.failures_in_row >= MAX_FAILURES_IN_ROW
    if is_broken and snapshot.seconds_since_run < THROTTLE_SECONDS:
        reason = f"This worker's last {snapshot.failures_in_row} runs failed. It gets another job after a pause."
        return NoJob(reason, retry_after_seconds=THROTTLE_SECONDS - snapshot.seconds_since_run)
    if snapshot.chosen is not None and snapshot.chosen.closed:
        return NoJob(f"The branch {snapshot.chosen.name} {snapshot.chosen.closed}.", CLOSED_SECONDS)
    if is_near_share(snapshot.held, snapshot.fleet, snapshot.rules) and snapshot.volunteers >= MIN_VOLUNTEERS:
        reason = (
            f"Your workers hold {snapshot.held} of the project's {snapshot.fleet} jobs, and its contract gives no "
            f"volunteer more than {snapshot.rules.max_volunteer:.0%} of them."
        )
        return NoJob(reason, retry_after_seconds=SHARE_SECONDS)
    return None


def _choose_experiment(snapshot: Snapshot, rng: Random) -> Decision | NoJob:
    kind = _draw_kind(snapshot, rng)
    if kind is None and snapshot.is_draining:
        reason = "A maintainer lets this project run out: no experiment begins, and nothing waits to be measured."
        return NoJob(reason, CLOSED_SECONDS)
    if kind is None:
        return NoJob("Nothing needs to be measured at the moment, and this worker runs no experiments.", 60.0)
    parent = choose_parent(
        snapshot.candidates, snapshot.branches, snapshot.rules, snapshot.last_parent, snapshot.chosen, rng
    )
    if parent is None and snapshot.chosen is None:
        return NoJob("A maintainer paused every branch on which there is a measured commit.", CLOSED_SECONDS)
    if parent is None:
        assert snapshot.chosen is not None
        why = f"{snapshot.chosen.name}, the branch that its volunteer chose, has not been measured on this hardware."
        return Decision(JobKind.REPLICATE, snapshot.chosen.head_sha, why, snapshot.chosen.id, is_check=False)
    return Decision(kind, parent.candidate.sha, parent.why, parent.branch.id if parent.branch else None)


def _draw_kind(snapshot: Snapshot, rng: Random) -> JobKind | None:
    """A kind of experiment that the worker can do; None if it can do none."""
    kinds = [kind for kind in JobKind if kind.makes_experiment and kind in snapshot.kinds]
    if len(kinds) < 2:
        return kinds[0] if kinds else None
    weights = [snapshot.shares.get(kind, 0.0) for kind in kinds]
    return rng.choices(kinds, weights)[0] if sum(weights) else rng.choice(kinds)


def _choose_measurement(snapshot: Snapshot) -> Decision | None:
    if snapshot.needs_control and not snapshot.is_alone:
        leaders = sorted(snapshot.candidates, key=lambda candidate: candidate.mean)[:LEADERS]
        if control := _control(snapshot, leaders):
            return control
    is_asked = not snapshot.kinds or (snapshot.is_anchor and not snapshot.is_alone)  # alone it has nobody to check
    turn = JobKind.REPLICATE if is_asked else turn_to_measure(snapshot.turn, snapshot.mix)
    if turn is None:
        return None
    of_record = _confirm(snapshot) or _promote(snapshot) if turn == JobKind.REPLICATE else None
    if of_record and not (snapshot.is_anchor and snapshot.turn % 2):  # it verifies in between, since others wait for it
        return of_record
    elsewhere = None
    if snapshot.elsewhere is not None:
        why = "It leads on other hardware by more than any commit leads here, and has no run on this hardware yet."
        elsewhere = Decision(JobKind.REPLICATE, snapshot.elsewhere, why)
    if elsewhere and not snapshot.is_anchor:  # an invented class may lead at will, and must not keep anchors busy
        return elsewhere
    leaders = list_leaders(snapshot)
    if turn == JobKind.REPLICATE:
        return _verify(snapshot, leaders) or _replicate_due(snapshot) or of_record or elsewhere
    if snapshot.is_alone:
        return _measure_seed_again(snapshot, leaders)
    return _replicate_due(snapshot) or _control(snapshot, leaders)


def _confirm(snapshot: Snapshot) -> Decision | None:
    if snapshot.to_confirm is None:
        return None
    why = "A record was chosen; runs that took no part in choosing give the number that is published."
    return Decision(JobKind.CONFIRM, snapshot.to_confirm, why, is_check=False)


def _promote(snapshot: Snapshot) -> Decision | None:
    job = snapshot.to_promote
    if job is None:
        return None
    why = (
        f"A record is run on the rung {job.rung} beside the last commit that was promoted there: does its gain hold "
        "with a larger budget?"
    )
    return Decision(JobKind.PROMOTE, job.measured, why, is_check=False, promotion=job)


def list_leaders(snapshot: Snapshot) -> list[Candidate]:
    """The leading commits that are settled or to which this worker may add a run, so that none which fails everywhere
    but with its author hides those behind it. An anchor takes those last that are in dispute or suspect: its runs are
    few, others settle such, and liars would keep it busy."""

    def order(candidate: Candidate) -> tuple[bool, bool, float]:
        is_doubted = candidate.is_disputed or candidate.is_suspect
        return snapshot.is_anchor and is_doubted, candidate.sha != snapshot.expected, candidate.mean

    def may_choose(candidate: Candidate) -> bool:
        is_new = snapshot.is_alone or candidate.sha not in snapshot.own
        return is_new or candidate.is_settled or _ran_elsewhere(snapshot, candidate)

    some = filter(may_choose, snapshot.candidates)
    return sorted(some, key=order)[:LEADERS]


def _replicate_due(snapshot: Snapshot) -> Decision | None:
    """A result that its author's trust makes due."""
    if not snapshot.due:
        return None
    why = "Its author reports a gain, and others replicate a share of the gains that this volunteer reports."
    return Decision(JobKind.REPLICATE, snapshot.due[0], why)


def _measure_seed_again(snapshot: Snapshot, leaders: Sequence[Candidate]) -> Decision | None:
    """A run of the seed by a lone worker, because every gain is counted from it."""
    if not leaders or snapshot.root_measured >= min(leaders[0].runs, MAX_RUNS_OF_ONE_COMMIT):
        return None
    why = "A control: gains are measured from the seed, which has fewer runs than the leading commit."
    return Decision(JobKind.CONTROL, snapshot.root_sha, why)


def _verify(snapshot: Snapshot, leaders: Sequence[Candidate]) -> Decision | None:
    """A run of the record while it has few, else of a leader that is not settled; none once the best is."""
    if not snapshot.is_alone and (record := _find_record(snapshot)):
        why = (
            f"The best verified commit has {count_noun(record.runs, 'run')}; another one makes its number more certain."
        )
        return Decision(JobKind.REPLICATE, record.sha, why)
    for leader in leaders:
        if leader.is_settled and not (leader.is_corroborated and snapshot.is_anchor):
            break
        if snapshot.is_alone and leader.runs >= MAX_RUNS_OF_ONE_COMMIT:
            break  # else its own best commits would take all of a lone worker's turns
        is_due = leader.sha != snapshot.root_sha or bool(snapshot.kinds)  # the seed claims nothing
        if is_due and _may_add(snapshot, leader) and leader.measured_in_flight < MAX_MEASURED_AT_ONCE:
            base = snapshot.bases.get(leader.sha)
            if base is not None and snapshot.failures_in_row < FAILURES_EXPLAINED_BY_SEED:
                why = "An anchor's runs have to find the leading commit's gain, and those of what it is counted from."
                return Decision(JobKind.REPLICATE, base, why)
            why = (
                f"The leading commit has {count_noun(leader.runs, 'run')}; another one shows whether its gain is real."
            )
            return Decision(JobKind.REPLICATE, leader.sha, why)
    return None


def _ran_elsewhere(snapshot: Snapshot, leader: Candidate) -> bool:
    """Whether a commit whose only run by this anchor failed ran with another since: the anchor runs it once more."""
    return snapshot.is_anchor and leader.is_suspect and leader.runs > 1 and snapshot.own.get(leader.sha) == 1


def _may_add(snapshot: Snapshot, leader: Candidate) -> bool:
    """Whether this worker may add a run to a commit that is not settled: an anchor's own runs are counted (0031)."""
    if snapshot.is_anchor and not snapshot.is_alone:
        own = snapshot.own.get(leader.sha, 0)
        is_again = (leader.is_corroborated and own < MAX_RUNS_OF_ONE_COMMIT) or _ran_elsewhere(snapshot, leader)
        return own == 0 or is_again
    has_room = leader.runs + leader.measured_in_flight < MAX_RUNS_OF_ONE_COMMIT
    return has_room and (snapshot.is_alone or leader.sha not in snapshot.own)


def _find_record(snapshot: Snapshot) -> Candidate | None:
    """The best verified commit, if it should have more runs, and this volunteer may add one."""
    settled = [candidate for candidate in snapshot.candidates if candidate.is_settled]
    record = min(settled, key=lambda candidate: candidate.mean, default=None)
    if record is None or record.sha in snapshot.own:
        return None
    return record if record.runs + record.measured_in_flight < RUNS_OF_A_RECORD else None


def _control(snapshot: Snapshot, leaders: Sequence[Candidate]) -> Decision | None:
    """A run of this worker's last parent, or of a leading commit, that others measured, to estimate its offset."""
    last = [candidate for candidate in snapshot.candidates if candidate.sha == snapshot.last_parent]
    for commit in (*last, *leaders):
        if commit.sha not in snapshot.own and commit.measured_in_flight < MAX_MEASURED_AT_ONCE:
            jobs = "its own jobs" if last else "other jobs"
            why = f"A control: commits that others measured too show this worker's offset, and {jobs} start here."
            return Decision(JobKind.CONTROL, commit.sha, why)
    return None


def _calibrate(snapshot: Snapshot) -> Decision | NoJob:
    if snapshot.root_failed >= MAX_ROOT_FAILURES:
        return NoJob(
            f"The project's unchanged seed failed {snapshot.root_failed} times on this worker, so the fault is likely "
            "here. Read the reason of its last run, fix it, and start the worker under another name.",
            retry_after_seconds=600,
        )
    if snapshot.jobs_held:
        return NoJob("This worker's baseline is being measured; experiments follow.", retry_after_seconds=30)
    why = "This worker's first job in this project: measure the unchanged seed, as its baseline."
    return Decision(JobKind.REPLICATE, snapshot.root_sha, why)
