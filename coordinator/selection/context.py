"""Context packs: what an agent gets to read before it proposes. All of it is quoted data, never instructions."""

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.experiments.service import ExperimentRow
from coordinator.findings import service as findings
from coordinator.lineage import service as lineage
from coordinator.selection import queries

MAX_STEPS = 12
MAX_SIBLINGS = 20
MAX_CHARACTERS = 24_000
"""About 6,000 tokens, at four characters a token."""


def compose_context(session: Session, project_id: int, base_sha: str, hardware_class: str) -> str:
    """The pack for a job that starts from `base_sha`, as Markdown."""
    ancestors = [commit.sha for commit in lineage.list_ancestors(session, base_sha, MAX_STEPS)]
    steps = sorted(experiments.list_by_commits(session, ancestors), key=lambda row: row.experiment.id)
    siblings = experiments.list_siblings(session, base_sha, hardware_class, MAX_SIBLINGS)
    running = queries.list_reserved_leases(session, project_id)
    parts = [
        _section("The steps that led to this parent", [_describe(row) for row in steps]),
        _section("What was tried from this parent, and what came of it", [_tell(session, row) for row in siblings]),
        _section("What others run now", [str((lease.proposal or {}).get("title", "")) for lease in running]),
    ]
    return "\n".join(parts)[:MAX_CHARACTERS]


def _section(heading: str, lines: list[str]) -> str:
    quoted = "\n".join(f"> - {' '.join(line.split())}" for line in lines) or "> (nothing yet)"
    return f"## {heading}\n\n{quoted}\n"


def _describe(row: ExperimentRow) -> str:
    head = f"#{row.experiment.id} {row.experiment.title}"
    posterior = row.posterior
    if posterior is None:
        return f"{head}: {row.run.outcome} ({row.run.reason or 'no reason given'})"
    effect = ""
    if posterior.effect_mean is not None and posterior.effect_sd is not None:
        effect = f", effect {posterior.effect_mean:+.4f} ± {posterior.effect_sd:.4f} ({posterior.verdict})"
    return f"{head}: {posterior.metric_mean:.4f} ± {posterior.metric_sd:.4f}, n = {posterior.runs}{effect}"


def _tell(session: Session, row: ExperimentRow) -> str:
    finding = findings.find_finding_of_experiment(session, row.experiment.id)
    return _describe(row) + (f". Its author says: {finding.claim}" if finding else "")
