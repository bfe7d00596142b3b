"""What came of a run, for the volunteer whose machine made it, and what came of all of them."""

from dataclasses import dataclass

from pydantic import Field

from shared.contract import Contract
from shared.experiments import Posterior, Verdict
from shared.leases import Lease
from shared.numbers import format_effect, format_measure
from shared.protocol import Message
from shared.runs import RunOutcome, RunReport


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


class Totals(Message):
    """What a worker has done in all, on whatever project. Seconds are the device's."""

    runs: int = Field(default=0, ge=0)
    improved: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    stopped: int = Field(default=0, ge=0)
    device_seconds: float = Field(default=0.0, ge=0)
    saved_seconds: float = Field(default=0.0, ge=0)

    def after(self, receipt: Receipt) -> "Totals":
        """With one more run."""
        outcome = receipt.report.outcome
        return Totals(
            runs=self.runs + 1,
            improved=self.improved + receipt.is_gain,
            failed=self.failed + (outcome not in (RunOutcome.OK, RunOutcome.STOPPED_EARLY)),
            stopped=self.stopped + (outcome is RunOutcome.STOPPED_EARLY),
            device_seconds=self.device_seconds + receipt.report.seconds.total,
            saved_seconds=self.saved_seconds + receipt.saved_seconds,
        )

    def describe(self) -> str:
        """`12 runs: 3 improved, 2 failed, 1 stopped early · 1.4 h, 6 % saved`."""
        kinds = ((self.improved, "improved"), (self.failed, "failed"), (self.stopped, "stopped early"))
        parts = ", ".join(f"{count} {word}" for count, word in kinds if count)
        runs = f"{self.runs} run{'' if self.runs == 1 else 's'}" + (f": {parts}" if parts else "")
        hours = self.device_seconds / 3600
        time = f"{hours:.1f} h" if hours >= 1 else f"{self.device_seconds / 60:.0f} min"
        saved = self.saved_seconds / (self.device_seconds + self.saved_seconds) if self.saved_seconds else 0.0
        return f"{runs} · {time}" + (f", {saved:.0%} saved" if saved else "")


def describe_posterior(posterior: Posterior | None) -> str:
    """`3.3000 ± 0.0052, n = 2`, or that nothing is known."""
    if posterior is None:
        return "not measured yet"
    return f"{format_measure(posterior.metric_mean, posterior.metric_sd)}, n = {posterior.runs}"
