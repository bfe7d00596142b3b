"""What came after a finding was written, and what it did to its claim. Pure: nothing is asked of the database here."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import fmean
from typing import NamedTuple

from shared.experiments import Dispute, Posterior, Standing, Verdict
from shared.findings import EvidenceChange, Trend
from shared.formatting import format_effect, format_measure

CONCLUDED = frozenset({Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE})
SURER = 0.75
"""An effect of the same size whose sd fell below this part of what it was counts as strengthened."""


class Written(NamedTuple):
    """What an author knew: the effect with the sign turned so that lower is better, and the verdict."""

    mean: float
    sd: float
    verdict: Verdict | None

    @property
    def side(self) -> float:
        """-1 for a claimed gain, 1 for a claimed loss."""
        return -1.0 if self.mean < 0 else 1.0


class LaterRun(NamedTuple):
    """A run of the commit, the first one included, read without its worker's offset."""

    run_id: int
    worker: str
    read_as: float
    at: datetime


class Rival(NamedTuple):
    """Another experiment that bears on the claim: it took the step out, or made the same one from another parent."""

    experiment_id: int
    is_ablation: bool
    effect_mean: float
    effect_sd: float
    verdict: Verdict | None
    at: datetime


def judge(written: Written | None, now: Posterior | None, sign: float) -> Trend:
    """How the evidence stands to what it was. `sign` is 1 where a lower metric is better, else -1."""
    if written is None or now is None or now.effect_mean is None or now.effect_sd is None:
        return Trend.AS_WRITTEN
    is_other = now.verdict != written.verdict and {now.verdict, written.verdict} <= CONCLUDED
    if is_other or now.dispute is Dispute.REFUTED:
        return Trend.OVERTURNED
    gained = written.side * (sign * now.effect_mean - written.mean)
    if gained < -now.effect_sd or now.standing is Standing.SUSPECT or now.dispute is Dispute.CONTESTED:
        return Trend.WEAKENED
    if gained > now.effect_sd or now.effect_sd < SURER * written.sd:
        return Trend.STRENGTHENED
    return Trend.AS_WRITTEN


def tell_runs(written: Written, runs: Sequence[LaterRun], noise_sd: float, sign: float) -> Iterator[EvidenceChange]:
    """What each run after the first did to the claim."""
    for number, run in enumerate(runs[1:], start=1):
        before = fmean(earlier.read_as for earlier in runs[:number])
        against = written.side * sign * (run.read_as - before) < -noise_sd
        trend = Trend.WEAKENED if against else Trend.STRENGTHENED
        measured = f"{format_measure(run.read_as, noise_sd)}, after {format_measure(before, noise_sd)}"
        words = f"{trend.capitalize()} by run {run.run_id} of {run.worker}: {measured}."
        yield EvidenceChange(trend=trend, words=words, run_id=run.run_id, at=run.at)


def tell_rivals(written: Written, rivals: Sequence[Rival], sign: float) -> Iterator[EvidenceChange]:
    """What other experiments say about the same step."""
    for rival in rivals:
        if rival.verdict not in CONCLUDED:
            continue
        # To take a gain out costs: so the sign of an ablation is the other way round.
        effect = sign * rival.effect_mean * (-1 if rival.is_ablation else 1)
        agrees = rival.verdict is not Verdict.NO_CHANGE and effect * written.side > 0
        trend = Trend.STRENGTHENED if agrees else Trend.WEAKENED
        did = "took it out again" if rival.is_ablation else "did the same from another parent"
        came = f"{rival.verdict.replace('_', ' ')}, {format_effect(rival.effect_mean, rival.effect_sd)}"
        words = f"{trend.capitalize()} by experiment {rival.experiment_id}, which {did}: {came}."
        yield EvidenceChange(trend=trend, words=words, experiment_id=rival.experiment_id, at=rival.at)


def tell_standing(now: Posterior | None, at: datetime) -> Iterator[EvidenceChange]:
    """What the standing of the numbers does to the claim."""
    if now is None:
        return
    reasons = []
    if now.standing is Standing.SUSPECT:
        reasons.append(
            "Weakened: what it stands on, or who measured it, was contradicted, and nobody measured it since."
        )
    if now.dispute is Dispute.CONTESTED:
        reasons.append("Weakened: its runs contradict each other by more than 3 sd.")
    if now.dispute is Dispute.REFUTED:
        reasons.append("Refuted: those who checked it agree with each other, and not with its author.")
    for words in reasons:
        trend = Trend.OVERTURNED if words.startswith("Refuted") else Trend.WEAKENED
        yield EvidenceChange(trend=trend, words=words, at=at)
