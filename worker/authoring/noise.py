"""Measures how much a commit's results differ: with one seed, and with a different seed per run."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.runs import RunOutcome
from worker.authoring.local_run import AuthoringError, TreeRunner, WorkTree
from worker.authoring.view import View

FIRST_SEED = 1


@dataclass(frozen=True)
class Spread:
    """Statistics of several runs' metrics; `sd` is the sample's (n − 1), 0 for a single run."""

    metrics: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.metrics)

    @property
    def sd(self) -> float:
        return statistics.stdev(self.metrics) if len(self.metrics) > 1 else 0.0

    @property
    def low(self) -> float:
        return min(self.metrics)

    @property
    def high(self) -> float:
        return max(self.metrics)


@dataclass(frozen=True)
class Noise:
    """Noise of one commit on one machine: `same_seed` is that of machine and clock, `varied_seeds` is all noise."""

    same_seed: Spread
    varied_seeds: Spread
    hardware_class: str


def measure_noise(runner: TreeRunner, tree: WorkTree, runs: int, view: View) -> Noise:
    """Run a tree `runs` times with one seed, and with seeds 1 to `runs`; the run in common is done once.

    Raises AuthoringError, also if a run has no metric.
    """
    same = measure_seeds(runner, tree, [FIRST_SEED] * runs, view)
    others = measure_seeds(runner, tree, range(FIRST_SEED + 1, FIRST_SEED + runs), view)
    return Noise(Spread(same), Spread((same[0], *others)), runner.device_runner.hardware.hardware_class)


def measure_seeds(runner: TreeRunner, tree: WorkTree, seeds: Sequence[int], view: View) -> tuple[float, ...]:
    """The metric of a run with each seed. Raises AuthoringError, also if a run has none."""
    metrics: list[float] = []
    for number, seed in enumerate(seeds, start=1):
        view.tell(f"run {number} of {len(seeds)}, seed {seed}")
        report = runner.measure(tree, seed, compiles_ahead=True)
        view.emit("run", **report.model_dump(mode="json", include={"seed", "outcome", "metric", "reason"}))
        if report.outcome is not RunOutcome.OK or report.metric is None:
            raise AuthoringError(f"a run ended as {report.outcome.value}: {report.reason}")
        view.tell(f"run {number} of {len(seeds)}, seed {seed}: {tree.contract.objective.metric} {report.metric:.6f}")
        metrics.append(report.metric)
    return tuple(metrics)


def describe_noise(noise: Noise) -> dict[str, object]:
    """The noise as JSON fields."""
    return {
        "hardware_class": noise.hardware_class,
        **{
            name: {"runs": len(s.metrics), "mean": s.mean, "sd": s.sd, "low": s.low, "high": s.high}
            for name, s in (("same_seed", noise.same_seed), ("varied_seeds", noise.varied_seeds))
        },
    }


def print_noise(noise: Noise, tree: WorkTree, write: Callable[[str], None]) -> None:
    """Write the table and the line for the contract."""
    objective = tree.contract.objective
    write(f"{objective.metric} in {objective.unit}, {noise.hardware_class}")
    write(f"{'':14}{'runs':>5}{'mean':>12}{'sd':>12}{'lowest':>12}{'highest':>12}")
    for name, spread in (("same seed", noise.same_seed), ("varied seeds", noise.varied_seeds)):
        numbers = "".join(f"{value:12.6f}" for value in (spread.mean, spread.sd, spread.low, spread.high))
        write(f"{name:14}{len(spread.metrics):5}{numbers}")
    stated = tree.contract.evidence.noise_sd
    write(f"The contract states noise_sd = {stated:g}; these runs suggest {noise.varied_seeds.sd:.2g}.")
