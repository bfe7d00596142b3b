"""The summary of a finished run, for the volunteer whose machine made it."""

from dataclasses import dataclass

from shared.contract import Contract
from shared.experiments import Posterior, Verdict
from shared.formatting import format_effect, format_measure
from shared.leases import GrantedLease
from shared.runs import RunOutcome, RunReport
from worker.ui.status import Totals


@dataclass(frozen=True)
class RunSummary:
    """A finished run. `title` says what was tried; `place` is the result's URL, or where it waits to be sent.

    `posterior` combines all runs of its commit, if the coordinator has sent it.
    """

    lease: GrantedLease
    title: str
    contract: Contract
    report: RunReport
    place: str
    posterior: Posterior | None = None

    @property
    def metric(self) -> str:
        """`val_bpb 2.1034`, or the outcome of a run without a metric."""
        if self.report.outcome is RunOutcome.OK and self.report.metric is not None:
            return f"{self.contract.objective.metric} {self.report.metric:.4f}"
        return self.report.outcome.value.replace("_", " ")

    @property
    def parent(self) -> str:
        """The posterior of the base commit, as text."""
        return describe_posterior(self.lease.base.posterior)

    @property
    def effect(self) -> str:
        """`−0.0488 ± 0.0073 (improved, provisional)`: the effect against the parent; empty if unknown."""
        posterior = self.posterior
        if posterior is None or posterior.effect_mean is None or posterior.effect_sd is None:
            return ""
        words = [posterior.verdict.value.replace("_", " ")] if posterior.verdict else []
        words.append(posterior.standing.value.replace("_", " "))
        return f"{format_effect(posterior.effect_mean, posterior.effect_sd)} ({', '.join(words)})"

    @property
    def is_gain(self) -> bool:
        """Whether the run belongs to an experiment whose verdict is `improved`."""
        makes = self.lease.kind.makes_experiment
        return makes and self.posterior is not None and self.posterior.verdict is Verdict.IMPROVED

    @property
    def saved_seconds(self) -> float:
        """Seconds of the budget that an early stop saved."""
        if self.report.outcome is not RunOutcome.STOPPED_EARLY or self.report.hopeless_at is None:
            return 0.0
        return (1 - self.report.hopeless_at) * self.contract.budget.training_seconds

    def add_to(self, totals: Totals) -> Totals:
        """The totals including this run."""
        outcome = self.report.outcome
        return Totals(
            runs=totals.runs + 1,
            improved=totals.improved + self.is_gain,
            failed=totals.failed + (outcome not in (RunOutcome.OK, RunOutcome.STOPPED_EARLY)),
            stopped=totals.stopped + (outcome is RunOutcome.STOPPED_EARLY),
            device_seconds=totals.device_seconds + self.report.seconds.total,
            saved_seconds=totals.saved_seconds + self.saved_seconds,
        )


def describe_posterior(posterior: Posterior | None) -> str:
    """`3.3000 ± 0.0052, n = 2`, or `not measured yet`."""
    if posterior is None:
        return "not measured yet"
    return f"{format_measure(posterior.metric_mean, posterior.metric_sd)}, n = {posterior.runs}"
