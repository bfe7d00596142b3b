"""Measures how much a commit's results differ: with one seed, and with a different seed per run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from shared.contract import Contract
from shared.runs import RunOutcome
from worker.authoring.local_run import TreeRunner, WorkTree
from worker.authoring.view import View
from worker.commands.options import WorkerCommandError

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
            lines.append(f"{name:14}{runs:5}" + "".join(f"{number:12.6f}" for number in numbers))
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
        view.show(f"run {number} of {len(seeds)}, seed {seed}: {tree.contract.objective.metric} {report.metric:.6f}")
        metrics.append(report.metric)
    return tuple(metrics)
