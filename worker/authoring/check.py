"""Finds missing or unsafe parts of a seed: by reading it, then by running it; and measures how much its results differ,
with one seed and with a different seed per run."""

import ast
import math
import secrets
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from shared.contract import Contract
from shared.formatting import format_run
from shared.runs import Hardware, RunOutcome, RunReport
from worker.agents.search_space import ConstantsError, read_spaces
from worker.authoring.local_run import TreeRunner, WorkTree
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError
from worker.git.projects import PROGRAM_FILE
from worker.runs.validate import find_excess

FIRST_SEED = 1


@dataclass(frozen=True)
class Spread:
    """Statistics of several runs' metrics; `sd` is the sample's (n − 1), 0 for a single run."""

    metrics: tuple[float, ...]

    @property
    def sd(self) -> float:
        return statistics.stdev(self.metrics) if len(self.metrics) > 1 else 0.0

    def to_json(self) -> dict[str, float]:
        mean, low, high = statistics.fmean(self.metrics), min(self.metrics), max(self.metrics)
        return {"runs": len(self.metrics), "mean": mean, "sd": self.sd, "low": low, "high": high}


@dataclass(frozen=True)
class Noise:
    """Noise of one commit on one machine: `same_seed` is that of machine and clock, `varied_seeds` is all noise."""

    same_seed: Spread
    varied_seeds: Spread
    hardware_class: str

    def to_json(self) -> dict[str, object]:
        spreads = {"same_seed": self.same_seed.to_json(), "varied_seeds": self.varied_seeds.to_json()}
        return {"hardware_class": self.hardware_class, **spreads}

    def describe(self, contract: Contract) -> str:
        """A table, and a line about the contract's `noise_sd`."""
        lines = [
            f"{contract.objective.metric} in {contract.objective.unit}, {self.hardware_class}",
            f"{'':14}{'runs':>5}{'mean':>12}{'sd':>12}{'lowest':>12}{'highest':>12}",
        ]
        for name, spread in (("same seed", self.same_seed), ("varied seeds", self.varied_seeds)):
            runs, *numbers = spread.to_json().values()
            lines.append(f"{name:14}{runs:5}" + "".join(f"{format_run(number):>12}" for number in numbers))
        stated, found = contract.evidence.noise_sd, self.varied_seeds.sd
        return "\n".join([*lines, f"The contract states noise_sd = {stated:g}; these runs suggest {found:.2g}."])


def measure_noise(runner: TreeRunner, tree: WorkTree, runs: int, view: View) -> Noise:
    """Run a tree `runs` times with one seed, and with seeds 1 to `runs`. Raises WorkerCommandError."""
    same = measure_seeds(runner, tree, [FIRST_SEED] * runs, view)
    others = measure_seeds(runner, tree, range(FIRST_SEED + 1, FIRST_SEED + runs), view)
    return Noise(Spread(same), Spread((same[0], *others)), runner.device_runner.hardware.hardware_class)


def measure_seeds(runner: TreeRunner, tree: WorkTree, seeds: Sequence[int], view: View) -> tuple[float, ...]:
    """The metric of a run with each seed. Raises WorkerCommandError, also if a run has none."""
    metrics: list[float] = []
    for number, seed in enumerate(seeds, start=1):
        view.show(f"run {number} of {len(seeds)}, seed {seed}")
        report = runner.measure(tree, seed, compiles_ahead=True)
        view.emit("run", **report.model_dump(mode="json", include={"seed", "outcome", "metric", "reason"}))
        if report.outcome is not RunOutcome.OK or report.metric is None:
            raise WorkerCommandError(f"a run ended as {report.outcome.value}: {report.reason}")
        metric = f"{tree.contract.objective.metric} {format_run(report.metric)}"
        view.show(f"run {number} of {len(seeds)}, seed {seed}: {metric}")
        metrics.append(report.metric)
    return tuple(metrics)


MAX_HANDOVER_SHARE = 0.05
Z = 3.09
"""The normal distribution's quantile at 0.999, which a claim must reach."""

MANY_RUNS = 20


class Level(StrEnum):
    FINE = "fine"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Remark:
    """A sentence about a seed. An error prevents its publication; a warning does not."""

    level: Level
    text: str


_fine, _warning, _error = (partial(Remark, level) for level in Level)


def check_seed(runner: TreeRunner, tree: WorkTree, runs: int, view: View) -> Iterator[Remark]:
    """All remarks in turn. A seed with errors in its files is not run. Raises WorkerCommandError."""
    found = list(inspect(tree, runner.device_runner.hardware))
    yield from found
    if any(remark.level is Level.ERROR for remark in found):
        return
    report = runner.measure(tree, FIRST_SEED, holdout_key=secrets.token_hex(32))
    yield from judge_run(report, tree.contract)
    if runs > 1 and report.metric is not None:
        others = measure_seeds(runner, tree, range(FIRST_SEED + 1, FIRST_SEED + runs), view)
        yield judge_noise(Spread((report.metric, *others)), tree.contract)


def inspect(tree: WorkTree, hardware: Hardware) -> Iterator[Remark]:
    """Remarks from reading the files."""
    contract = tree.contract
    yield from _inspect_files(tree)
    yield from _inspect_commands(tree)
    for source in contract.data.sources:
        if source.url and source.url.startswith("http:"):
            yield _warning(f"{source.file} comes over plain http: the checksum protects what is read, not who sees it")
    budget, evidence, objective = contract.budget, contract.evidence, contract.objective
    if budget.handover_seconds > MAX_HANDOVER_SHARE * budget.training_seconds:
        yield _warning(
            f"budget.handover_seconds is {budget.handover_seconds / budget.training_seconds:.0%} of the training: "
            "an experiment that finishes that late gains as much time"
        )
    needed = runs_to_resolve(objective.min_effect, evidence.noise_sd)
    if needed > MANY_RUNS:
        yield _warning(
            f"objective.min_effect = {objective.min_effect:g} is small beside evidence.noise_sd = "
            f"{evidence.noise_sd:g}: telling such an effect from chance takes about {needed} runs of each commit"
        )
    if contract.limits.memory_mib > hardware.memory_mib:
        yield _warning(
            f"limits.memory_mib = {contract.limits.memory_mib} is more than this machine has ({hardware.memory_mib})"
        )


def runs_to_resolve(effect: float, noise_sd: float) -> int:
    """Runs of each of two commits to tell an effect from zero at Z; the difference of means has sd noise · √(2 / n)."""
    return math.ceil(2 * (Z * noise_sd / effect) ** 2)


def judge_run(report: RunReport, contract: Contract) -> Iterator[Remark]:
    """Remarks on a run of the untouched seed."""
    if report.outcome is not RunOutcome.OK or report.metric is None:
        where = f" [{report.frame}]" if report.frame else ""
        yield _error(f"the untouched seed ended as {report.outcome.value}: {report.reason}{where}")
        return
    objective, seconds = contract.objective, report.seconds
    yield _fine(f"it runs: {objective.metric} {format_run(report.metric)} after {seconds.total:.1f} s")
    if report.holdout_metric is not None:
        yield _fine(f"on sealed data {objective.metric} is {format_run(report.holdout_metric)}")
    if objective.sign * report.metric <= objective.sign * objective.plausible_floor:
        yield _error(
            f"objective.plausible_floor = {objective.plausible_floor:g} is worse than the untouched seed "
            f"({format_run(report.metric)}): every result would be held for a maintainer"
        )
    outside = seconds.total - contract.budget.training_seconds
    if outside > contract.budget.training_seconds:
        yield _warning(
            f"of {seconds.total:.1f} s only {contract.budget.training_seconds:g} s are the experiment's own; "
            "starting and scoring take the rest"
        )


def judge_noise(spread: Spread, contract: Contract) -> Remark:
    """Compare the contract's prior with runs of different seeds."""
    stated = contract.evidence.noise_sd
    text = f"noise: sd {spread.sd:.2g} over {len(spread.metrics)} seeds; evidence.noise_sd says {stated:g}"
    # An sd from few runs is rough: one of three runs lies below twice the truth in 98 of 100 cases
    # (chi-squared with 2 degrees of freedom: 1 - exp(-4)).
    if spread.sd > 2 * stated:
        return _warning(f"{text}, which is too low: results would look more certain than they are")
    return _fine(text)


def _inspect_files(tree: WorkTree) -> Iterator[Remark]:
    files = tree.contract.files
    if excess := find_excess(tree.files, files):
        yield _error(excess)
    for path, text in tree.files.items():
        if path.endswith(".py"):
            try:
                ast.parse(text)
            except SyntaxError as error:
                yield _error(f"{path}:{error.lineno} is not Python: {error.msg}")
    if PROGRAM_FILE not in tree.files:
        yield _warning(f"there is no {PROGRAM_FILE}: it tells agents the goal and the protected files")
    found = sum(_count_spaces(tree.files[path]) for path in files.editable)
    if found:
        yield _fine(f"constants that the search agent may change: {found}")
    else:
        yield _warning(
            "the search agent finds nothing to change: write `# range: 1e-4 to 1e-2, log` or `# choices: 1, 2, 4` "
            "beside constants in capital letters at the top of an editable file"
        )


def _count_spaces(text: str) -> int:
    try:
        return len(read_spaces(text))
    except ConstantsError:
        return 0


def _inspect_commands(tree: WorkTree) -> Iterator[Remark]:
    """Each role's module must exist and must not be editable."""
    for role, module in tree.contract.commands:
        if module is None:
            continue
        path = module.replace(".", "/")
        candidates = [f"{path}.py", f"{path}/__main__.py"]
        found = [file for file in candidates if file in tree.files]
        if not found:
            yield _error(f"commands.{role} = {module!r} is not a module of this folder: {candidates[0]} is missing")
        elif found[0] in tree.contract.files.editable:
            yield _error(f"commands.{role} is {found[0]}, which experiments may edit: they would judge themselves")
    package = tree.contract.commands.scorer.split(".")[0]
    inside = [path for path in tree.contract.files.editable if path.startswith(f"{package}/")]
    if inside:
        yield _error(f"experiments may edit {', '.join(inside)}, beside the scorer that judges them")
