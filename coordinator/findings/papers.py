"""Papers: a finding with all that the database knows of its experiment as of now."""

from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from coordinator.evidence import service as evidence
from coordinator.experiments import service as experiments
from coordinator.findings import paper_queries, queries, service
from coordinator.findings.changes import LaterRun, Rival, Written, judge, tell_rivals, tell_runs, tell_standing
from coordinator.findings.paper_queries import ClassRow, RivalRow
from coordinator.findings.queries import FindingRow
from coordinator.http.errors import NotFoundError
from coordinator.models import Finding, FindingNote, Project, Volunteer
from coordinator.projects import service as projects
from shared.experiments import JobKind, Verdict
from shared.findings import ClassEvidence, EvidenceChange, FindingView, Note, NoteKind, Paper
from shared.formatting import count_noun
from shared.protocol import now


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
    """What its author knew; None where there was no effect, or it was not kept."""
    mean, sd = finding.written_effect_mean, finding.written_effect_sd
    if mean is None or sd is None:
        return None
    verdict = Verdict(finding.written_verdict) if finding.written_verdict else None
    return Written(_find_sign(session, finding) * mean, sd, verdict)


def _tell_changes(session: Session, row: FindingRow, written: Written, sign: float) -> Iterator[EvidenceChange]:
    """What came since, in the hardware class that the author measured in."""
    finding, experiment = row.finding, row.experiment
    explained = experiments.view_evidence(session, experiment.id, finding.hardware_class)
    times = paper_queries.map_run_times(session, experiment.commit_sha)
    runs = [
        LaterRun(run.run_id, run.worker, run.read_as, times[run.run_id])
        for run in explained.runs
        if run.counts and run.read_as is not None
    ]
    yield from tell_runs(written, runs, explained.noise_sd, sign)
    rivals = paper_queries.list_ablations(session, experiment.id, finding.hardware_class)
    yield from tell_rivals(written, _view_rivals(rivals, is_ablation=True), sign)
    rivals = paper_queries.list_same_steps(session, experiment, finding.hardware_class)
    yield from tell_rivals(written, _view_rivals(rivals, is_ablation=False), sign)
    if row.posterior is not None:
        yield from tell_standing(evidence.view_posterior(row.posterior), row.posterior.updated_at)


def _view_rivals(rows: Sequence[RivalRow], *, is_ablation: bool) -> list[Rival]:
    return [
        Rival(
            experiment.id, is_ablation, posterior.effect_mean, posterior.effect_sd,
            Verdict(posterior.verdict) if posterior.verdict else None, experiment.created_at,
        )
        for experiment, posterior in rows
        if posterior.effect_mean is not None and posterior.effect_sd is not None
    ]  # fmt: skip
