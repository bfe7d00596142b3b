"""Papers: findings with the current evidence on their experiments, and how that evidence changed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from statistics import fmean
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from coordinator.evidence import service as evidence
from coordinator.experiments import service as experiments
from coordinator.findings import paper_queries, queries, service
from coordinator.findings.paper_queries import RivalRow
from coordinator.findings.queries import FindingRow
from coordinator.findings.steps import list_steps
from coordinator.http.errors import NotFoundError, must_find
from coordinator.lineage import service as lineage
from coordinator.models import Experiment, Finding, FindingNote, FindingVersion, Project, Volunteer, view_of
from coordinator.novelty.fingerprint import fingerprint
from coordinator.projects import service as projects
from shared.experiments import Assignment, Dispute, JobKind, Posterior, Standing, Verdict
from shared.findings import EvidenceChange, FindingView, Note, Paper, Trend
from shared.formatting import count_noun, format_effect, format_measure
from shared.protocol import now
from shared.records import ExperimentEvidence

CONCLUDED = frozenset({Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE})
STRENGTHENED_BELOW = 0.75
"""An effect of the same size is strengthened when its sd falls below this share of the sd as written."""


_CONSTANT = re.compile(
    r"(?m)^([A-Z][A-Z0-9_]*)[ \t]*(?::[^=\n]+)?=(?!=)(?![^#\n]*(?:'{3}|\"{3}))"
    r"[ \t]*([^#\n]*[^#\s([{,\\])(?=[ \t]*(?:#|$))"
)
"""A constant and its whole value, which ends on the same line, so that the file still compiles with another one."""


class Written(NamedTuple):
    """The effect that the author knew, with its sign turned so that lower is better, and the verdict."""

    mean: float
    sd: float
    verdict: Verdict | None

    @property
    def side(self) -> float:
        """-1 for a claimed gain, 1 for a claimed loss, 0 where neither is claimed."""
        return {Verdict.IMPROVED: -1.0, Verdict.WORSE: 1.0}.get(self.verdict or Verdict.UNRESOLVED, 0.0)

    def lean(self, mean: float, before: float) -> float:
        """How much more a mean says what is claimed than the one before it did; where no change is, by their sizes."""
        return self.side * (mean - before) if self.side else abs(before) - abs(mean)

    def tell(self, trend: Trend) -> tuple[Trend, str]:
        """The trend of a claim and its word; what left it open is followed by what comes later, and no more."""
        return (trend, trend.capitalize()) if self.verdict in CONCLUDED else (Trend.AS_WRITTEN, "Followed")


def judge(written: Written | None, now: Posterior | None, sign: float) -> Trend:
    """How the evidence changed since the finding was written. `sign` is 1 where a lower metric is better, else -1."""
    if written is None or now is None or now.effect_mean is None or now.effect_sd is None:
        return Trend.AS_WRITTEN
    is_other = now.verdict != written.verdict and {now.verdict, written.verdict} <= CONCLUDED
    if is_other or now.dispute == Dispute.REFUTED:
        return Trend.OVERTURNED
    if now.standing == Standing.SUSPECT or now.dispute == Dispute.CONTESTED:
        return Trend.WEAKENED
    if written.verdict not in CONCLUDED:
        return Trend.DECIDED if now.verdict in CONCLUDED else Trend.AS_WRITTEN
    gained = written.lean(sign * now.effect_mean, written.mean)
    if gained < -now.effect_sd:
        return Trend.WEAKENED
    if gained > now.effect_sd or now.effect_sd < STRENGTHENED_BELOW * written.sd:
        return Trend.STRENGTHENED
    return Trend.AS_WRITTEN


def list_run_changes(
    written: Written, explained: ExperimentEvidence, times: Mapping[int, datetime], sign: float
) -> Iterator[EvidenceChange]:
    """The change of the claim by each run after the first, with workers' offsets removed; `times` are the runs'."""
    noise_sd = explained.noise_sd
    metrics: list[float] = []
    for run in explained.runs:
        if not run.counts or run.read_as is None:
            continue
        if metrics:
            before = fmean(metrics)
            difference = sign * (run.read_as - before)
            against = written.lean(difference, 0.0) < -noise_sd
            trend, word = written.tell(Trend.WEAKENED if against else Trend.STRENGTHENED)
            measured = f"{format_measure(run.read_as, noise_sd)}, after {format_measure(before, noise_sd)}"
            words = f"{word} by run {run.run_id} of {run.worker}: {measured}."
            yield EvidenceChange(trend=trend, words=words, run_id=run.run_id, at=times[run.run_id])
        metrics.append(run.read_as)


def list_rival_changes(written: Written, rivals: Iterable[RivalRow], sign: float) -> Iterator[EvidenceChange]:
    """The change of the claim by experiments that removed its step, or made the same step from another parent."""
    for experiment, posterior in rivals:
        if posterior.verdict not in CONCLUDED or posterior.effect_mean is None or posterior.effect_sd is None:
            continue
        is_ablation = experiment.kind == JobKind.ABLATE
        effect = sign * posterior.effect_mean * (-1 if is_ablation else 1)  # to take a gain out makes it worse
        agrees = effect * written.side > 0 if posterior.verdict != Verdict.NO_CHANGE else not written.side
        trend, word = written.tell(Trend.STRENGTHENED if agrees else Trend.WEAKENED)
        did = "took it out again" if is_ablation else "did the same from another parent"
        came = f"{posterior.verdict.replace('_', ' ')}, {format_effect(posterior.effect_mean, posterior.effect_sd)}"
        words = f"{word} by experiment {experiment.id}, which {did}: {came}."
        yield EvidenceChange(trend=trend, words=words, experiment_id=experiment.id, at=experiment.created_at)


SUSPECT = (
    "Weakened: a commit that it builds on was contradicted, results of its author were, or it failed where others ran "
    "it, and nobody whose word is enough has measured it since."
)
CONTESTED = "Weakened: its runs contradict each other by more than 3 sd."
REFUTED = "Refuted: those who checked it agree with each other, and not with its author."


def list_standing_changes(now: Posterior, at: datetime) -> Iterator[EvidenceChange]:
    """The change of the claim by the standing and dispute of its measurements."""
    if now.standing == Standing.SUSPECT:
        yield EvidenceChange(trend=Trend.WEAKENED, words=SUSPECT, at=at)
    if now.dispute == Dispute.CONTESTED:
        yield EvidenceChange(trend=Trend.WEAKENED, words=CONTESTED, at=at)
    if now.dispute == Dispute.REFUTED:
        yield EvidenceChange(trend=Trend.OVERTURNED, words=REFUTED, at=at)


def view_paper(session: Session, finding_id: int, *, with_hidden: bool = False) -> Paper:
    """A finding, whole, as of now. Raises NotFoundError, FindingHiddenError."""
    row = get_shown(session, finding_id, with_hidden=with_hidden)
    finding, experiment = row.finding, row.experiment
    summary = service.view_summaries(session, [row])[0]
    classes = paper_queries.list_classes(session, experiment.commit_sha)
    sign = projects.contract_of(session.get_one(Project, finding.project_id)).objective.sign
    written = _read_written(finding, sign)
    citations, confirmed = paper_queries.count_all_citations(session, finding.id)
    return view_of(
        Paper, experiment, summary=summary, words=experiments.view_finding(finding, summary.posterior, row.outcome),
        sha=experiment.commit_sha, parent_id=paper_queries.find_parent_id(session, experiment.parent_sha),
        evidence=classes, runs=sum(known.runs for known in classes),
        volunteers=paper_queries.count_volunteers(session, experiment.commit_sha), pace=finding.pace,
        written_effect_mean=finding.written_effect_mean, written_effect_sd=finding.written_effect_sd,
        written_verdict=finding.written_verdict, trend=judge(written, summary.posterior, sign),
        changes=list(_list_changes(session, row, written, sign)) if written else [],
        confounded=_list_confounded(session, experiment), **_view_combination(session, experiment, summary.posterior),
        citations=citations, confirmed_citations=confirmed,
        notes=[view_note(note, author) for note, author in paper_queries.list_notes(session, finding.id)], as_of=now(),
    )  # fmt: skip


def _list_confounded(session: Session, experiment: Experiment) -> list[str]:
    """The constants that changed together against the parent, or one and `code`; none where only one thing did."""
    paths = projects.contract_of(session.get_one(Project, experiment.project_id)).files.editable
    shas = experiment.parent_sha, experiment.commit_sha
    before, after = (lineage.read_files(session, experiment.project_id, sha, paths) for sha in shas)
    changed, is_code = list[str](), False
    for path in sorted(before.keys() & after.keys()):
        was, now_is = (dict(_CONSTANT.findall(files[path])) for files in (before, after))
        changed += [name for name, value in now_is.items() if was.get(name, value) != value]
        is_code |= len({fingerprint({path: _CONSTANT.sub(r"\1 = 0", files[path])}) for files in (before, after)}) > 1
    if not changed:  # a description, whose code may be lost
        changed = [step.axis for step in list_steps(experiment.title) if step.value]
    elif is_code:
        changed.append("code")
    return list(dict.fromkeys(changed)) if len(set(changed)) > 1 else []


def _view_combination(session: Session, experiment: Experiment, posterior: Posterior | None) -> dict[str, Any]:
    """The parts that a combination was put together from; their predicted sum, and what the effect differs from it,
    where all parts that were asked for are there."""
    is_one = experiment.kind in (JobKind.COMBINE, JobKind.ADOPT)
    asked = paper_queries.find_assignment(session, experiment.lease_id) if is_one else Assignment()
    done = paper_queries.list_done_steps(session, experiment.id)
    parts = [f"#{step.experiment_id} {step.title}" for step in asked.steps if step.experiment_id in done]
    parts += [f"{name} = {value!r}" for name, value in asked.settings.items() if experiment.settings.get(name) == value]
    predicted = asked.predicted_effect if len(parts) == len(asked.steps) + len(asked.settings) else None
    interaction = None
    if predicted is not None and posterior is not None and posterior.effect_mean is not None:
        interaction = posterior.effect_mean - predicted
    return {
        "parts": parts,
        "predicted_sum": predicted,
        "interaction_mean": interaction,
        "interaction_sd": None if interaction is None or posterior is None else posterior.effect_sd,
    }


def get_row(session: Session, finding_id: int) -> FindingRow:
    """A finding with its experiment. Raises NotFoundError."""
    row = next(iter(queries.list_by_ids(session, [finding_id])), None)
    return must_find(row, f"There is no finding {finding_id}.")


def get_shown(session: Session, finding_id: int, *, with_hidden: bool = False) -> FindingRow:
    """A finding with its experiment; a hidden one only `with_hidden`. Raises NotFoundError, FindingHiddenError."""
    row = get_row(session, finding_id)
    if not with_hidden:
        service.check_shown(session, row.finding)
    return row


def view_words(
    session: Session, finding_id: int, number: int | None = None, *, with_hidden: bool = False
) -> FindingView:
    """A finding's words in one of their versions, else the newest. Raises NotFoundError, FindingHiddenError."""
    row = get_shown(session, finding_id, with_hidden=with_hidden)
    finding, posterior = row.finding, evidence.view_posterior(row.posterior)
    if number in (None, finding.version):
        return experiments.view_finding(finding, posterior, row.outcome)
    version = session.get(FindingVersion, (finding_id, number))
    if version is None:
        raise NotFoundError(
            f"Finding {finding_id} has {count_noun(finding.version, 'version')}, and no version {number}."
        )
    return experiments.write_words(FindingView.model_validate(version.words), posterior, row.outcome)


def view_note(note: FindingNote, author: Volunteer) -> Note:
    return view_of(Note, note, by=author.name, role=author.role)


def _read_written(finding: Finding, sign: float) -> Written | None:
    """The effect as the author knew it; None if it is unknown."""
    mean, sd = finding.written_effect_mean, finding.written_effect_sd
    if mean is None or sd is None:
        return None
    return Written(sign * mean, sd, Verdict(finding.written_verdict) if finding.written_verdict else None)


def _list_changes(session: Session, row: FindingRow, written: Written, sign: float) -> Iterator[EvidenceChange]:
    """The changes since the finding was written, in its author's hardware class."""
    experiment, hardware_class = row.experiment, row.finding.hardware_class
    explained = experiments.view_evidence(session, experiment.id, hardware_class)
    times = paper_queries.map_run_times(session, experiment.commit_sha)
    yield from list_run_changes(written, explained, times, sign)
    yield from list_rival_changes(written, paper_queries.list_ablations(session, experiment.id, hardware_class), sign)
    yield from list_rival_changes(written, paper_queries.list_same_steps(session, experiment, hardware_class), sign)
    posterior = evidence.view_posterior(row.posterior)
    if row.posterior is not None and posterior is not None:
        yield from list_standing_changes(posterior, row.posterior.updated_at)
