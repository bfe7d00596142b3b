"""Context packs: what an agent gets to read before it proposes. All of it is quoted data, never instructions."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.experiments.service import ToldExperiment
from coordinator.lineage import service as lineage
from coordinator.selection.queries import RunningJob

MAX_STEPS = 12
MAX_SIBLINGS = 20
MAX_CHARACTERS = 24_000
"""About 6,000 tokens, at four characters a token."""


def compose_context(session: Session, base_sha: str, hardware_class: str, running: Sequence[RunningJob]) -> str:
    """The pack for a job that starts from `base_sha`, as Markdown; `running` is what others run in the project."""
    steps = experiments.tell_commits(session, lineage.list_nearest(session, base_sha, MAX_STEPS))
    siblings = experiments.tell_siblings(session, base_sha, hardware_class, MAX_SIBLINGS)
    parts = [
        _section("The steps that led to this parent", [_describe(step) for step in steps]),
        _section("What was tried from this parent, and what came of it", [_tell(sibling) for sibling in siblings]),
        _section("What others run now", [str(job.proposal["title"]) for job in running]),
    ]
    return "\n".join(parts)[:MAX_CHARACTERS]


def _section(heading: str, lines: list[str]) -> str:
    quoted = "\n".join(f"> - {' '.join(line.split())}" for line in lines) or "> (nothing yet)"
    return f"## {heading}\n\n{quoted}\n"


def _describe(told: ToldExperiment) -> str:
    head = f"#{told.id} {told.title}"
    if told.metric_mean is None or told.metric_sd is None:
        return f"{head}: {told.outcome} ({told.reason or 'no reason given'})"
    effect = ""
    if told.effect_mean is not None and told.effect_sd is not None:
        effect = f", effect {told.effect_mean:+.4f} ± {told.effect_sd:.4f} ({told.verdict})"
    return f"{head}: {told.metric_mean:.4f} ± {told.metric_sd:.4f}, n = {told.runs}{effect}"


def _tell(told: ToldExperiment) -> str:
    return _describe(told) + (f". Its author says: {told.claim}" if told.claim else "")
