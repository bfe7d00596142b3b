"""What came of a run, for the volunteer whose machine made it."""

from dataclasses import dataclass

from shared.contract import Contract
from shared.experiments import Posterior, Verdict
from shared.formatting import format_effect, format_measure
from shared.leases import Lease
from shared.runs import RunOutcome, RunReport
from worker.ui.status import Totals


@dataclass(frozen=True)
class Receipt:
    """A finished run. `title` says what was tried; `place` where it is to be seen, or where it waits to be sent.

    `posterior` is what all runs together now say of its commit, where the coordinator has said so.
    """

    lease: Lease
    title: str
    contract: Contract
    report: RunReport
    place: str
    posterior: Posterior | None = None

    @property
    def metric(self) -> str:
        """`val_bpb 2.1034`, or what became of the run instead."""
        if self.report.outcome is RunOutcome.OK and self.report.metric is not None:
            return f"{self.contract.objective.metric} {self.report.metric:.4f}"
        return self.report.outcome.value.replace("_", " ")

    @property
    def parent(self) -> str:
        """What was known of the commit it started from, with its uncertainty."""
        return describe_posterior(self.lease.base.posterior)

    @property
    def effect(self) -> str:
        """`−0.0488 ± 0.0073 (improved, provisional)`: against its parent; empty where nothing is known of it."""
        posterior = self.posterior
        if posterior is None or posterior.effect_mean is None or posterior.effect_sd is None:
            return ""
        words = [posterior.verdict.value.replace("_", " ")] if posterior.verdict else []
        words.append(posterior.standing.value.replace("_", " "))
        return f"{format_effect(posterior.effect_mean, posterior.effect_sd)} ({', '.join(words)})"

    @property
    def is_gain(self) -> bool:
        """Whether an experiment is an improvement as far as is known now."""
        makes = self.lease.kind.makes_experiment
        return makes and self.posterior is not None and self.posterior.verdict is Verdict.IMPROVED

    @property
    def saved_seconds(self) -> float:
        """Of the budget, by an early stop."""
        if self.report.outcome is not RunOutcome.STOPPED_EARLY or self.report.hopeless_at is None:
            return 0.0
        return (1 - self.report.hopeless_at) * self.contract.budget.training_seconds

    def add_to(self, totals: Totals) -> Totals:
        """With this run, too."""
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
    """`3.3000 ± 0.0052, n = 2`, or that nothing is known."""
    if posterior is None:
        return "not measured yet"
    return f"{format_measure(posterior.metric_mean, posterior.metric_sd)}, n = {posterior.runs}"
