"""The supervisor of a run: three sandboxed processes, one clock, one report."""

from worker.training.job import Progress, RunImpossible, RunStopped, TrainingJob
from worker.training.supervisor import measure, try_out

__all__ = ["Progress", "RunImpossible", "RunStopped", "TrainingJob", "measure", "try_out"]
