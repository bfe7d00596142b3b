"""`swarm checkout` and `swarm reproduce`: write a commit to a folder, and run it again to check the published result.

The run is `swarm-worker run-local` on the commit's files, so it uses the same sandboxes, clock, data and scoring. A
single run has noise, and this machine an unknown offset, unless the parent is measured as well.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from math import hypot
from pathlib import Path

from pydantic import ValidationError

from shared.commits import CommitError, check_path
from shared.experiments import Posterior
from shared.formatting import format_effect, format_measure, format_run
from shared.projects import CommitFiles
from shared.records import ExperimentDetail, Record
from shared.runs import RunReport
from swarm.client import Client
from swarm.demo import find_command
from swarm.listing import CommandError

CONTRADICTED_SD = 3.0
"""Number of sd beyond which two measurements contradict each other, as between volunteers."""


@dataclass(frozen=True)
class Reproduction:
    """A comparison in lines of text. `deviation_sd` is the distance of both values in sd of their difference."""

    lines: list[str]
    deviation_sd: float

    @property
    def agrees(self) -> bool:
        return abs(self.deviation_sd) <= CONTRADICTED_SD


def reproduce(
    client: Client, experiment: ExperimentDetail, seed: int, worker_options: list[str], *, with_parent: bool
) -> Reproduction:
    """Runs an experiment's commit here, and its parent if asked to. Raises CommandError."""
    posterior, noise_sd = experiment.posterior, client.get_evidence(experiment.id).noise_sd
    if not experiment.has_code:
        raise CommandError(f"The code of #{experiment.id} is lost: only what it measured is known.")
    if posterior is None:
        raise CommandError(f"#{experiment.id} has no metric: its run {experiment.outcome}.")
    here, hardware_class = _run(client, experiment.project, experiment.sha, seed, worker_options)
    if with_parent and posterior.effect_mean is not None and posterior.effect_sd is not None:
        here -= _run(client, experiment.project, experiment.parent_sha, seed, worker_options)[0]
        noise_sd, mean, sd = hypot(noise_sd, noise_sd), posterior.effect_mean, posterior.effect_sd
        measured = f"{format_effect(here, noise_sd)}, one run each of it and its parent"
        published = f"{format_effect(mean, sd)}, n = {posterior.runs}"
    else:
        mean, sd, counted = find_published(experiment, posterior, client.list_records(experiment.project))
        measured, published = f"{format_run(here)}, one run", f"{format_measure(mean, sd)}, {counted}"
    lines = [f"here       {measured} with seed {seed}", f"published  {published}"]
    if hardware_class != experiment.hardware_class:
        lines += [
            f"Measured on other hardware: {hardware_class} here, {experiment.hardware_class} there.",
            "Only effects may be compared across hardware, and with care: --with-parent measures one.",
        ]
    return Reproduction(lines, (here - mean) / hypot(noise_sd, sd))


def find_published(
    experiment: ExperimentDetail, posterior: Posterior, records: Iterable[Record]
) -> tuple[float, float, str]:
    """The number to compare with, its sd, and what it rests on: that of a record's confirmation runs if there is one,
    since its posterior is too good."""
    for record in records:
        commit, is_same = record.record, record.hardware_class == experiment.hardware_class
        said = commit.confirmation if commit is not None and is_same and commit.sha == experiment.sha else None
        if said is not None and said.metric_mean is not None and said.metric_sd is not None:
            return said.metric_mean, said.metric_sd, f"n = {said.runs} confirmation runs"
    return posterior.metric_mean, posterior.metric_sd, f"n = {posterior.runs}"


def _run(client: Client, project: str, sha: str, seed: int, worker_options: list[str]) -> tuple[float, str]:
    """Runs a commit on this machine: its metric and hardware class. The worker's progress goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="swarm-reproduce-") as name:
        folder = Path(name, project)
        write_files(client.get_files(project, sha), folder)
        command = [find_command("swarm-worker"), "run-local", str(folder), "--seed", str(seed), "--json"]
        done = subprocess.run([*command, *worker_options], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  our own program
    return _read_report(done.stdout)


def _read_report(output: str) -> tuple[float, str]:
    """The last line of the worker's events. Raises CommandError where there was no metric."""
    last = output.strip().rpartition("\n")[2]
    try:
        event = json.loads(last) if last else {}
        event.pop("event", None)
        report = RunReport.model_validate(event)
    except (ValidationError, json.JSONDecodeError) as error:
        raise CommandError("swarm-worker gave no result; its messages are above.") from error
    if report.metric is None:
        raise CommandError(f"the run here {report.outcome}: {report.reason}.")
    return report.metric, report.hardware.hardware_class


def write_files(commit: CommitFiles, folder: Path) -> None:
    """Writes a commit's files to a new or empty folder. Raises CommandError, also for a path that leads out of it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} exists and is not an empty folder.")
    try:
        for path, text in commit.files.items():
            check_path(path)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="")
    except CommitError as error:
        raise CommandError(f"{error}; files are only written inside {folder}.") from error
    except OSError as error:
        raise CommandError(f"cannot write to {folder}: {error.strerror}.") from error
