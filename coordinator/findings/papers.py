"""Papers: findings with the current evidence on their experiments, and how that evidence changed."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import fmean
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.evidence import service as evidence
from coordinator.experiments import service as experiments
from coordinator.findings import paper_queries, queries, service
from coordinator.findings.paper_queries import ClassRow, RivalRow
from coordinator.findings.queries import FindingRow
from coordinator.http.errors import NotFoundError
from coordinator.models import Finding, FindingNote, Project, Volunteer
from coordinator.projects import service as projects
from shared.experiments import Dispute, JobKind, Posterior, Standing, Verdict
from shared.findings import ClassEvidence, EvidenceChange, FindingView, Note, NoteKind, Paper, Trend
from shared.formatting import count_noun, format_effect, format_measure
from shared.protocol import now

CONCLUDED = frozenset({Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE})
STRENGTHENED_BELOW = 0.75
"""An effect of the same size is strengthened when its sd falls below this share of the sd as written."""


class Written(NamedTuple):
    """The effect that the author knew, with its sign turned so that lower is better, and the verdict."""

    mean: float
    sd: float
    verdict: Verdict | None

    @property
    def side(self) -> float:
        """-1 for a claimed gain, 1 for a claimed loss."""
        return -1.0 if self.mean < 0 else 1.0


class LaterRun(NamedTuple):
    """A run of the commit, with its worker's offset removed. The first run is included."""

    run_id: int
    worker: str
    read_as: float
    at: datetime


class Rival(NamedTuple):
    """Another experiment that tests the claim: it removed the step, or made the same step from another parent."""

    experiment_id: int
    is_ablation: bool
    effect_mean: float
    effect_sd: float
    verdict: Verdict | None
    at: datetime


def judge(written: Written | None, now: Posterior | None, sign: float) -> Trend:
    """How the evidence changed since the finding was written. `sign` is 1 where a lower metric is better, else -1."""
    if written is None or now is None or now.effect_mean is None or now.effect_sd is None:
        return Trend.AS_WRITTEN
    is_other = now.verdict != written.verdict and {now.verdict, written.verdict} <= CONCLUDED
    if is_other or now.dispute is Dispute.REFUTED:
        return Trend.OVERTURNED
    gained = written.side * (sign * now.effect_mean - written.mean)
    if gained < -now.effect_sd or now.standing is Standing.SUSPECT or now.dispute is Dispute.CONTESTED:
        return Trend.WEAKENED
    if gained > now.effect_sd or now.effect_sd < STRENGTHENED_BELOW * written.sd:
        return Trend.STRENGTHENED
    return Trend.AS_WRITTEN


def list_run_changes(
    written: Written, runs: Sequence[LaterRun], noise_sd: float, sign: float
) -> Iterator[EvidenceChange]:
    """The change of the claim by each run after the first."""
    for number, run in enumerate(runs[1:], start=1):
        before = fmean(earlier.read_as for earlier in runs[:number])
        against = written.side * sign * (run.read_as - before) < -noise_sd
        trend = Trend.WEAKENED if against else Trend.STRENGTHENED
        measured = f"{format_measure(run.read_as, noise_sd)}, after {format_measure(before, noise_sd)}"
        words = f"{trend.capitalize()} by run {run.run_id} of {run.worker}: {measured}."
        yield EvidenceChange(trend=trend, words=words, run_id=run.run_id, at=run.at)


def list_rival_changes(written: Written, rivals: Sequence[Rival], sign: float) -> Iterator[EvidenceChange]:
    """The change of the claim by other experiments on the same step."""
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


def list_standing_changes(now: Posterior | None, at: datetime) -> Iterator[EvidenceChange]:
    """The change of the claim by the standing and dispute of its measurements."""
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


def view_paper(session: Session, finding_id: int) -> Paper:
    """A finding, whole, as of now. Raises NotFoundError."""
    row = get_row(session, finding_id)
    finding, experiment = row.finding, row.experiment
    summary = service.view_summaries(session, [row])[0]
    classes = paper_queries.list_classes(session, experiment.commit_sha)
    written, sign = _read_written(session, finding), _find_sign(session, finding)
    citations, confirmed = paper_queries.count_all_citations(session, finding.id)
    return Paper(
        summary=summary,
        words=experiments.view_finding(finding),
        kind=JobKind(experiment.kind),
        hypothesis=experiment.hypothesis,
        predicted_effect=experiment.predicted_effect,
        sha=experiment.commit_sha,
        parent_sha=experiment.parent_sha,
        parent_id=paper_queries.find_parent_id(session, experiment.parent_sha),
        evidence=[_view_class(known) for known in classes],
        runs=sum(known.runs for known in classes),
        volunteers=paper_queries.count_volunteers(session, experiment.commit_sha),
        pace=finding.pace,
        written_effect_mean=finding.written_effect_mean,
        written_effect_sd=finding.written_effect_sd,
        written_verdict=Verdict(finding.written_verdict) if finding.written_verdict else None,
        trend=judge(written, summary.posterior, sign),
        changes=list(_tell_changes(session, row, written, sign)) if written else [],
        citations=citations,
        confirmed_citations=confirmed,
        notes=[view_note(note, author) for note, author in paper_queries.list_notes(session, finding.id)],
        as_of=now(),
    )


def get_row(session: Session, finding_id: int) -> FindingRow:
    """A finding with its experiment. Raises NotFoundError."""
    rows = queries.list_by_ids(session, [finding_id])
    if not rows:
        raise NotFoundError(f"There is no finding {finding_id}.")
    return rows[0]


def view_words(session: Session, finding_id: int, number: int) -> FindingView:
    """A finding's words in one of their versions. Raises NotFoundError."""
    finding = get_row(session, finding_id).finding
    if number == finding.version:
        return experiments.view_finding(finding)
    version = paper_queries.find_version(session, finding_id, number)
    if version is None:
        raise NotFoundError(
            f"Finding {finding_id} has {count_noun(finding.version, 'version')}, and no version {number}."
        )
    return FindingView.model_validate(version.words)


def view_note(note: FindingNote, author: Volunteer) -> Note:
    return Note(
        id=note.id,
        kind=NoteKind(note.kind),
        text=note.text,
        by=author.name,
        role=author.role,
        created_at=note.created_at,
    )


def _view_class(known: ClassRow) -> ClassEvidence:
    return ClassEvidence(
        hardware_class=known.hardware_class,
        runs=known.runs,
        volunteers=known.volunteers,
        posterior=evidence.view_posterior(known.posterior),
    )


def _find_sign(session: Session, finding: Finding) -> float:
    return projects.contract_of(session.get_one(Project, finding.project_id)).objective.sign


def _read_written(session: Session, finding: Finding) -> Written | None:
    """The effect as the author knew it; None if it is unknown."""
    mean, sd = finding.written_effect_mean, finding.written_effect_sd
    if mean is None or sd is None:
        return None
    verdict = Verdict(finding.written_verdict) if finding.written_verdict else None
    return Written(_find_sign(session, finding) * mean, sd, verdict)


def _tell_changes(session: Session, row: FindingRow, written: Written, sign: float) -> Iterator[EvidenceChange]:
    """The changes since the finding was written, in its author's hardware class."""
    finding, experiment = row.finding, row.experiment
    explained = experiments.view_evidence(session, experiment.id, finding.hardware_class)
    times = paper_queries.map_run_times(session, experiment.commit_sha)
    runs = [
        LaterRun(run.run_id, run.worker, run.read_as, times[run.run_id])
        for run in explained.runs
        if run.counts and run.read_as is not None
    ]
    yield from list_run_changes(written, runs, explained.noise_sd, sign)
    rivals = paper_queries.list_ablations(session, experiment.id, finding.hardware_class)
    yield from list_rival_changes(written, _view_rivals(rivals, is_ablation=True), sign)
    rivals = paper_queries.list_same_steps(session, experiment, finding.hardware_class)
    yield from list_rival_changes(written, _view_rivals(rivals, is_ablation=False), sign)
    if row.posterior is not None:
        yield from list_standing_changes(evidence.view_posterior(row.posterior), row.posterior.updated_at)


def _view_rivals(rows: Sequence[RivalRow], *, is_ablation: bool) -> list[Rival]:
    return [
        Rival(
            experiment.id, is_ablation, posterior.effect_mean, posterior.effect_sd,
            Verdict(posterior.verdict) if posterior.verdict else None, experiment.created_at,
        )
        for experiment, posterior in rows
        if posterior.effect_mean is not None and posterior.effect_sd is not None
    ]  # fmt: skip
