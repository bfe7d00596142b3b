"""The reasons for a verdict: read from the database and put into sentences."""

from collections.abc import Iterator, Sequence, Set
from math import inf
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.evidence import agreement, calibration_queries, posteriors, queries, statistics
from coordinator.evidence.calibration_queries import EpochRow
from coordinator.evidence.posteriors import Ancestor, DerivedPosterior, is_found_by_roots
from coordinator.evidence.run_stats import list_runs_of_commit
from coordinator.evidence.statistics import EffectPrior, Measurement, Model, Normal
from coordinator.lineage.commits import get_commit
from coordinator.models import Project, view_of
from coordinator.projects import service as projects
from shared.contract import Contract
from shared.experiments import Dispute, JobKind, Standing, Verdict
from shared.formatting import count_noun, format_effect, format_measure
from shared.records import Estimate, EvidenceRun, ExpectedEffect, ExperimentEvidence, Trust


def explain(
    session: Session, project: Project, experiment_id: int, sha: str, hardware_class: str
) -> ExperimentEvidence:
    """The evidence on an experiment's commit in a class, derived from the runs as they stand."""
    contract = projects.contract_of(project)
    model = posteriors.find_model(session, contract, project.id, hardware_class)
    epoch = calibration_queries.find_epoch(session, project.id, hardware_class)
    commit = get_commit(session, sha)
    ancestor = posteriors.find_ancestor(session, commit, hardware_class)
    runs = queries.map_measurements(session, [sha], hardware_class, contract).get(sha, [])
    prior = model.expect_of(runs)
    before = ancestor.expect(prior) if ancestor else None
    derived = posteriors.derive(session, contract, model, [commit], hardware_class).get(sha)
    case = EvidenceCase(contract, model, ancestor, prior, before, runs, derived)
    return ExperimentEvidence(
        experiment_id=experiment_id,
        sha=sha,
        hardware_class=hardware_class,
        epoch=epoch.number if epoch else 0,
        noise_sd=model.noise_sd,
        noise_is_assumed=model.is_assumed,
        effect_sd=prior.variance**0.5,
        effect_prior=view_prior(prior, next((run.kind for run in runs if run.kind in model.effects), None)),
        ancestor_sha=ancestor.sha if ancestor else None,
        runs=_view_runs(session, contract, epoch, sha, {run.worker_id for run in case.selected}) if epoch else [],
        before=view_of(Estimate, before) if before else None,
        scatter=case.scatter,
        runs_say=view_of(Estimate, case.pooled) if runs else None,
        after=derived.view() if derived else None,
        effect_probability=case.chance_of_effect,
        milestone_probability=case.chance_of_milestone,
        is_claim_confirmed=case.is_claim_confirmed,
        story=list(list_reasons(case)),
        would_change=list(list_would_change(case)),
    )


def view_prior(prior: EffectPrior, kind: JobKind | None) -> ExpectedEffect:
    """A prior of the effects of a kind of job, None for all kinds together."""
    return view_of(ExpectedEffect, prior, kind=kind)


def list_priors(session: Session, project: Project, hardware_class: str) -> list[ExpectedEffect]:
    """The priors of effects in force in a class, that of all kinds first."""
    model = posteriors.find_model(session, projects.contract_of(project), project.id, hardware_class)
    kinds = sorted(kind for kind in model.effects if kind is not None)
    common = view_prior(model.expect_of([]), None)
    return [common, *(view_prior(model.effects[kind], kind) for kind in kinds)]


def _view_runs(
    session: Session, contract: Contract, epoch: EpochRow, sha: str, selected: Set[int]
) -> list[EvidenceRun]:
    """All runs of a commit; `selected` are the workers whose runs the posterior rests on."""
    responses = calibration_queries.map_responses(session, epoch.project_id, epoch.hardware_class)
    unknown = epoch.find_unknown(contract)
    views = []
    for run, worker in list_runs_of_commit(session, sha):
        if run.hardware_class != epoch.hardware_class:
            continue
        response, shift = responses.get(run.worker_id, unknown), epoch.shift(run.seed_throughput, run.pace)
        offset = response.offset if run.metric is None else response.offset_at(run.metric, shift)
        counts = run.counts and run.metric is not None and JobKind(run.kind).is_evidence
        views.append(
            view_of(
                EvidenceRun,
                run,
                run_id=run.id,
                worker=worker,
                is_authors=JobKind(run.kind).makes_experiment,
                counts=counts,
                is_in_posterior=counts and run.worker_id in selected,
                offset=view_of(Estimate, offset),
                read_as=None if run.metric is None else run.metric - offset.mean,
            )
        )
    return views


TOLD_SCATTER = 1.3
"""Scatter from which it is worth a sentence; by chance alone one commit in ten shows as much."""

NOBODY_YET = -1
"""Worker and volunteer of a run that might come."""


class EvidenceCase(NamedTuple):
    """All that an experiment's verdict in a class follows from. `before` is what was expected without its own runs."""

    contract: Contract
    model: Model
    ancestor: Ancestor | None
    prior: EffectPrior
    before: Normal | None
    runs: Sequence[Measurement]
    derived: DerivedPosterior | None

    @property
    def above(self) -> str:
        """The commit that the effect is counted from, in words."""
        return "its parent" if self.ancestor and self.ancestor.is_parent else "its nearest measured ancestor"

    def _chance_of(self, difference: Normal | None) -> float | None:
        objective = self.contract.objective
        if difference is None:
            return None
        return statistics.probability_of_gain(difference, objective.sign, objective.min_effect)

    @property
    def selected(self) -> Sequence[Measurement]:
        """The runs that the posterior rests on."""
        return agreement.select(self.runs, self.model.noise_sd)

    @property
    def pooled(self) -> Normal:
        """The mean and sd of the selected runs, without ancestors."""
        return agreement.estimate(self.runs, self.model.noise_sd)

    @property
    def scatter(self) -> float:
        """How much less certain the commit's number is because its measurements differ."""
        return agreement.measure_disagreement(self.runs, self.model.noise_sd)

    @property
    def chance_of_effect(self) -> float | None:
        """P(better than its parent by `min_effect`)."""
        return self._chance_of(self.derived.effect if self.derived else None)

    @property
    def chance_of_milestone(self) -> float | None:
        """P(better than its anchor by `min_effect`)."""
        return self._chance_of(self.derived.milestone if self.derived else None)

    @property
    def is_agreed(self) -> bool:
        """Whether those who checked it agree as well as a claim demands."""
        return agreement.is_agreed(self.runs, self.model.noise_sd)

    @property
    def is_anchored(self) -> bool:
        """Whether an anchor, or who else the contract lets verify, is among those who agree."""
        vouched_verify = self.contract.evidence.vouched_verify
        return agreement.is_anchored(self.runs, self.model.noise_sd, vouched_verify=vouched_verify)

    @property
    def is_claim_confirmed(self) -> bool:
        """Whether a finding may claim the gain: the commit is verified, so anchors' own runs find what it gained since
        the last verified one, and the effect on its parent is probable enough, also by anchors' runs alone."""
        if self.ancestor is None or self.derived is None or self.derived.standing != Standing.VERIFIED:
            return False
        above = self.ancestor.belief.metric
        is_found = is_found_by_roots(self.contract, self.model, above, self.runs, statistics.SURE)
        return is_found and (self.chance_of_effect or 0.0) >= statistics.SURE_OF_CLAIMS


def list_reasons(case: EvidenceCase) -> Iterator[str]:
    """How the verdict came about."""
    if case.before is None:
        yield "No ancestor of it was measured on this hardware, so there is nothing to compare it with."
    else:
        expected = format_measure(case.before.mean, case.before.sd)
        yield f"Before its own runs {expected} was expected: {case.above}, with {_describe_prior(case.prior)} added."
    if case.derived is None:
        yield "No run of it counts."
        return
    pooled = case.pooled
    volunteers = len({run.volunteer_id for run in case.selected})
    by_others = statistics.split(case.runs)[1]
    others = " besides its author" if len(case.selected) < len(case.runs) else ""
    yield (
        f"Its {count_noun(len(case.selected), 'run')} by {count_noun(volunteers, 'volunteer')}{others}, read without "
        f"workers' offsets, {'gives' if len(case.selected) == 1 else 'give'} {format_measure(pooled.mean, pooled.sd)}."
    )
    if case.model.is_assumed:
        noise = f"{case.model.noise_sd:.2g}"
        yield f"The noise of a run, {noise}, is assumed; until runs tell it, verdicts need 3 sd."
    if case.scatter > TOLD_SCATTER:
        yield f"Its measurements differ more than usual here: its number is {case.scatter:.2g} times less certain."
    if others:
        yield "Its author's own result, for which it was picked, is left out now: what is picked was lucky on average."
    if others and len(case.selected) < len(by_others):
        many = len(by_others) - len(case.selected)
        also = f"So {'is' if many == 1 else 'are'} {count_noun(many, 'run')}"
        yield f"{also} by volunteers who stand apart from the others, or were contradicted of late."
    yield from _explain_verdict(case, case.derived)
    yield from _explain_standing(case, case.derived)


def _describe_prior(prior: EffectPrior) -> str:
    if not prior.effects:
        return "the typical change of an experiment"
    came = f"{count_noun(prior.effects, 'effect')} by {count_noun(prior.volunteers, 'volunteer')}"
    return f"the change that {came} taught to expect ({format_effect(prior.mean, prior.variance**0.5)})"


def _explain_verdict(case: EvidenceCase, derived: DerivedPosterior) -> Iterator[str]:
    together = format_measure(derived.metric.mean, derived.metric.sd)
    if derived.effect is None or derived.verdict is None:
        yield f"Together that makes {together}."
        return
    gain = Normal(-case.contract.objective.sign * derived.effect.mean, derived.effect.sd)
    chance, least = 1 - gain.probability_below(0.0), case.contract.objective.min_effect
    inside = gain.probability_below(least) - gain.probability_below(-least)
    reasons = {
        Verdict.IMPROVED: f"it is a gain with probability {_percent(chance)}",
        Verdict.WORSE: f"it is a loss with probability {_percent(1 - chance)}",
        Verdict.NO_CHANGE: f"the difference is below {least:g}, which would matter, with probability "
        f"{_percent(inside)}",
    }
    reason = reasons.get(derived.verdict, f"it is a gain with probability {_percent(chance)}, which leaves it open")
    effect = format_effect(derived.effect.mean, derived.effect.sd)
    verdict = str(derived.verdict).replace("_", " ")
    yield f"Together that makes {together}, {effect} against {case.above}: {verdict}, since {reason}."


def _explain_standing(case: EvidenceCase, derived: DerivedPosterior) -> Iterator[str]:
    chance = case.chance_of_milestone
    if derived.milestone is None or chance is None:
        return
    asked = f"{_percent(statistics.SURE_OF_MILESTONES)} is asked for"
    since = format_effect(derived.milestone.mean, derived.milestone.sd)
    likely = f"a gain of more than {case.contract.objective.min_effect:g} with probability {_percent(chance)}"
    yield f"Against the last verified commit above it, or the seed, {since}: {likely}."
    if derived.standing == Standing.VERIFIED:
        checkers = count_noun(derived.checkers, "volunteer")
        yield f"It is verified: {asked}, and {checkers} besides its author measured it."
        if not derived.caches_emptied:
            yield (
                "Its anchors' runs with `caches_emptied` do not find it by themselves: without, one process of a run "
                "can tell the next what it saw, and a file can cheat so (docs/security.md)."
            )
    elif derived.standing == Standing.CORROBORATED:
        yield (
            f"It is corroborated: {count_noun(derived.checkers, 'volunteer')} besides its author agree, "
            + ("but its anchors' runs alone do not find it." if case.is_anchored else "but no anchor is among them. ")
            + ("" if case.is_anchored else "Strangers cannot make each other trusted.")
        )
    elif derived.standing == Standing.SINGLE_OWNER:
        yield "It is as certain as a verified commit, but only its author has measured it."
    elif derived.standing == Standing.SUSPECT:
        why = "an ancestor or its author was contradicted, or it failed where others ran it"
        yield f"It is suspect: {why}, and nobody whose word is enough has measured it since."
    if case.is_claim_confirmed:
        sure = _percent(case.chance_of_effect or 0.0)
        yield f"Its finding may claim the gain: the commit is verified, and the probability of a gain is {sure}."


def list_would_change(case: EvidenceCase) -> Iterator[str]:
    """Yield a sentence on each thing that would change the verdict or the standing."""
    derived = case.derived
    if derived is None:
        yield "No run of it counts: any measurement would be the first."
        return
    if derived.standing == Standing.REPORTED:
        yield "Its code is lost, so nobody can measure it again: it stands as the imported session reports it."
        return
    if derived.standing == Standing.REJECTED:
        yield "A maintainer rejected this result: it counts for nothing."
        return
    if derived.awaits_anchors:
        yield "It waits for two anchors, to whom a maintainer sent it."
    elif derived.standing == Standing.HELD:
        yield "It waits for a maintainer: the number is too good to be believed without one."
    if derived.verdict is None:
        yield "It has no measured ancestor here, so there is nothing to compare it with."
        return
    needed = _count_repeats(case, derived)
    if needed is not None:
        more, then = needed
        agree = "agrees" if more == 1 else "agree"
        yield f"With {count_noun(more, 'more run')} by others that {agree} with those so far it would be {then}."
    missing = statistics.CHECKERS - derived.checkers
    if missing > 0:
        yield f"To be verified it must be measured by {count_noun(missing, 'more volunteer')} who did not make it."
    elif not case.is_agreed:
        yield "To be verified it must be measured once more: those who checked it do not agree closely enough."
    elif derived.standing == Standing.CORROBORATED or not case.is_anchored:
        yield f"To be verified it must be measured by an anchor{' once more' if case.is_anchored else ''}."
    if derived.dispute == Dispute.REFUTED:
        yield "Those who checked it agree with each other and not with its author: it is refuted."
    elif derived.dispute == Dispute.CONTESTED:
        yield "Its runs contradict each other by more than 3 sd: further ones must show which of them are right."
    if len(case.runs) >= statistics.MAX_RUNS and derived.standing == Standing.PROVISIONAL:
        given_up = f"verification gives up after {statistics.MAX_RUNS}: it stays unresolved"
        yield f"It has {len(case.runs)} runs, and {given_up}."
    if case.ancestor is not None and derived.metric.sd < inf:
        yield "Runs of its ancestors and a new epoch's offsets change what it is compared with."


def _count_repeats(case: EvidenceCase, derived: DerivedPosterior) -> tuple[int, str] | None:
    """How many more runs at the mean so far, each by somebody new, would change verdict or standing, and to what."""
    level = case.pooled.mean
    imagined = list(case.runs)
    for more in range(1, statistics.MAX_RUNS + 1):
        stranger = NOBODY_YET - more
        offset = Normal(0.0, case.model.noise_sd)
        imagined.append(Measurement(level, stranger, stranger, False, offset, Trust.ANCHOR))
        then = posteriors.conclude(case.contract, case.model, case.ancestor, imagined)
        if (then.verdict, then.standing) != (derived.verdict, derived.standing):
            return more, f"{then.verdict}, {then.standing}".replace("_", " ")
    return None


def _percent(chance: float) -> str:
    """`97.3 %`; what rounds to certainty is not called certain."""
    if chance > 0.9999:
        return "over 99.99 %"
    return "under 0.01 %" if chance < 0.0001 else f"{100 * chance:.4g} %"
