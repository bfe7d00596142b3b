"""The importance of settings, by the additive model of a project's newest runs. No claim rests on it."""

from collections.abc import Sequence
from typing import NamedTuple

from coordinator.db.engine import Conn
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection.combinations import IS_STEP, Known, read_model
from shared.experiments import Setting


class Importance(NamedTuple):
    """A setting's part of the variance that the model explains, and the value that it expects most of: its effect
    against the `reference`, with one sd, in the metric's unit. Where that is no gain, the reference is the best.
    `effects` are those of all values, lower for better."""

    name: str
    share: float
    reference: Setting | None
    best: Setting
    effect: float
    sd: float
    values: int
    effects: Sequence[tuple[Setting, float]]


class Importances(NamedTuple):
    """The settings, the most important first; the part of all changes of code together; and the number of runs that
    all of it was learnt from."""

    found: list[Importance]
    code_share: float
    runs: int


def view_importances(session: Conn, project: Project, most: int) -> Importances | None:
    """A project's settings by importance, at most `most`; None while there are too few runs for a model."""
    known = read_model(session, project)
    return None if known is None else order_settings(known, projects.contract_of(project).objective.sign, most)


def order_settings(known: Known, sign: float, most: int) -> Importances:
    """The settings of a model by importance, at most `most`."""
    found, model = list[Importance](), known.model
    by_share = sorted(model.shares.items(), key=lambda one: -one[1])
    for name, share in [one for one in by_share if not one[0].startswith(IS_STEP)][:most]:
        every = model.list_effects(name)
        best, effect, sd = min(every, key=lambda one: one[1])
        reference = known.reference.get(name)
        effects = [*((value, mean) for value, mean, _ in every), *([] if reference is None else [(reference, 0.0)])]
        values = len(model.values[name])
        found.append(Importance(name, share, reference, best, sign * effect, sd, values, effects))
    code_share = sum(share for name, share in by_share if name.startswith(IS_STEP))
    return Importances(found, code_share, model.runs)
