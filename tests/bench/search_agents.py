"""Simulated agents: they draft one knob at another level, combine others' steps, or take one out.

They know the ranges, what the coordinator tells them in the lease, and nothing else; some propose what exists under
another look. The code that they write has its knobs far enough apart for a three-way merge to tell them from each
other, so steps are re-applied knob by knob.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from shared.experiments import AxisDirection, JobKind, Proposal, Step, StepFate, StepReport
from shared.leases import GrantedLease
from tests.bench.landscape import DUPLICATE_SHARE, LEVELS, Levels

KINDS = (JobKind.IMPROVE, JobKind.ADOPT, JobKind.ABLATE, JobKind.TUNE, JobKind.COMBINE)
"""Of departures in structure a landscape of knobs knows nothing."""

HEEDED_SHARE = 0.9
"""How often an agent drafts anew that is shown something much like its proposal; else it insists."""


class Draft(NamedTuple):
    """A configuration with its code, and the proposal that states it."""

    levels: Levels
    code: str
    proposal: Proposal


def write_code(levels: Levels, comment: str = "") -> str:
    lines = [f"# What knob {number:02} does.\nKNOB_{number:02} = {level}\n" for number, level in enumerate(levels)]
    return "\n".join(([f"# {comment}\n"] if comment else []) + lines)


def read_code(text: str) -> Levels:
    return tuple(int(line.split("=")[1]) for line in text.splitlines() if line.startswith("KNOB_"))


def draft(
    lease: GrantedLease,
    base: Levels,
    known: Mapping[str, Levels],
    tried: Sequence[Levels],
    propose: Callable[[Levels, Random], Levels],
    draw: Random,
) -> Draft | None:
    """A draft for a lease, None if there is nothing to do in it. `known` are configurations by commit, `tried` those
    that an agent may propose again."""
    if lease.kind is JobKind.COMBINE:
        return _combine(lease, base, known, propose, draw)
    if lease.kind.is_assembled:
        return _assemble(lease, base, known)
    if tried and draw.random() < DUPLICATE_SHARE:
        return _describe(draw.choice(tried), base, f"try {draw.getrandbits(30)}")
    if lease.kind is JobKind.TUNE and lease.assignment.axis is not None:
        return _describe(_tune(base, int(lease.assignment.axis.removeprefix("KNOB_")), draw), base)
    levels = propose(base, draw)
    while f"KNOB_{_find_changed(levels, base):02}" in lease.assignment.avoid_axes:
        levels = propose(base, draw)
    return _describe(levels, base)


def _find_changed(levels: Levels, base: Levels) -> int:
    """The first knob that stands elsewhere; 0 if none does."""
    return next((knob for knob, level in enumerate(levels) if level != base[knob]), 0)


def _describe(levels: Levels, base: Levels, comment: str = "") -> Draft:
    knob = _find_changed(levels, base)
    before, after = base[knob], levels[knob]
    proposal = Proposal(
        title=f"KNOB_{knob:02} {before} → {after}",
        hypothesis=f"KNOB_{knob:02} stands better at {after} than at {before}.",
        axis=f"KNOB_{knob:02}",
        direction=AxisDirection.UP if after > before else AxisDirection.DOWN,
        value=str(after),
        settings={f"KNOB_{number:02}": level for number, level in enumerate(levels)},
    )
    return Draft(levels, write_code(levels, comment), proposal)


def _tune(base: Levels, knob: int, draw: Random) -> Levels:
    level = draw.choice([level for level in range(LEVELS) if level != base[knob]])
    return (*base[:knob], level, *base[knob + 1 :])


def _combine(
    lease: GrantedLease,
    base: Levels,
    known: Mapping[str, Levels],
    propose: Callable[[Levels, Random], Levels],
    draw: Random,
) -> Draft:
    """The lease's steps and settings on the base, and as many new proposals as it asks for."""
    asked, levels, told = lease.assignment, list(base), []
    for step in asked.steps:
        fate, levels = _apply(step, levels, known, backwards=False)
        told.append(StepReport(experiment_id=step.experiment_id, fate=fate))
    for name, value in asked.settings.items():
        levels[int(name.removeprefix("KNOB_"))] = int(value)
    combined = tuple(levels)
    for _ in range(asked.new_values):
        combined = propose(combined, draw)
    proposal = Proposal(
        title=f"Combine {sum(map(int.__ne__, combined, base))} changes",
        hypothesis="A model of all runs expects a gain of them together.",
        axis="several constants",
        direction=AxisDirection.CHANGE,
        predicted_effect=asked.predicted_effect,
        steps=told,
        settings={f"KNOB_{number:02}": level for number, level in enumerate(combined)},
    )
    return Draft(combined, write_code(combined), proposal)


def _assemble(lease: GrantedLease, base: Levels, known: Mapping[str, Levels]) -> Draft | None:
    """The lease's steps, re-applied to the base or taken out of it. None if all conflict or are there already."""
    levels, told = list(base), []
    for step in lease.assignment.steps:
        fate, levels = _apply(step, levels, known, backwards=lease.kind is JobKind.ABLATE)
        told.append(StepReport(experiment_id=step.experiment_id, fate=fate))
    if tuple(levels) == base:
        return None
    numbers = ", ".join(f"#{step.experiment_id}" for step in told if step.fate is StepFate.DONE)
    verb = "Without" if lease.kind is JobKind.ABLATE else "With"
    proposal = Proposal(
        title=f"{verb} {numbers}"[:200],
        hypothesis="Gains of other lines add up here." if verb == "With" else "The gain stays without it.",
        axis="steps",
        direction=AxisDirection.CHANGE,
        steps=told,
        settings={f"KNOB_{number:02}": level for number, level in enumerate(levels)},
    )
    return Draft(tuple(levels), write_code(tuple(levels)), proposal)


def _apply(
    step: Step, levels: list[int], known: Mapping[str, Levels], *, backwards: bool
) -> tuple[StepFate, list[int]]:
    """One step as a three-way merge would re-apply it: whole, or not at all."""
    before, after = known[step.parent_sha], known[step.sha]
    if backwards:
        before, after = after, before
    changed = [knob for knob in range(len(levels)) if before[knob] != after[knob]]
    open_ = [knob for knob in changed if levels[knob] != after[knob]]
    if not open_:
        return StepFate.IDLE, levels
    if any(levels[knob] != before[knob] for knob in open_):
        return StepFate.CONFLICT, levels
    return StepFate.DONE, [after[knob] if knob in open_ else level for knob, level in enumerate(levels)]
