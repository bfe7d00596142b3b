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

    `agent` is the name of the agent that had the idea, empty for a measurement; `posterior` combines all runs of its
    commit, if the coordinator has sent it.
    """

    lease: GrantedLease
    title: str
    contract: Contract
    report: RunReport
    place: str
    posterior: Posterior | None = None
    agent: str = ""

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
        return f"{format_effect(posterior.effect_mean, posterior.effect_sd)} ({posterior.conclusion})"

    def add_to(self, totals: Totals) -> Totals:
        """The totals including this run."""
        report, posterior = self.report, self.posterior
        improved = posterior is not None and posterior.verdict is Verdict.IMPROVED and self.lease.kind.makes_experiment
        stopped = report.outcome is RunOutcome.STOPPED_EARLY
        saved_share = 1 - report.hopeless_at if stopped and report.hopeless_at is not None else 0.0
        return Totals(
            runs=totals.runs + 1,
            improved=totals.improved + improved,
            failed=totals.failed + (not stopped and report.outcome is not RunOutcome.OK),
            stopped=totals.stopped + stopped,
            device_seconds=totals.device_seconds + report.seconds.total,
            saved_seconds=totals.saved_seconds
            + report.seconds.to_wall(saved_share * self.contract.budget.training_seconds),
        )


def describe_posterior(posterior: Posterior | None) -> str:
    """`3.3000 ± 0.0052, n = 2`, or `not measured yet`."""
    if posterior is None:
        return "not measured yet"
    return f"{format_measure(posterior.metric_mean, posterior.metric_sd)}, n = {posterior.runs}"
