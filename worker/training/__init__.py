"""The supervisor of a run: three sandboxed processes, one clock, one report."""

from worker.training.job import Progress, RunImpossible, RunStopped, TrainingJob
from worker.training.supervisor import measure, try_out
from worker.training.warming import compile_ahead

__all__ = ["Progress", "RunImpossible", "RunStopped", "TrainingJob", "compile_ahead", "measure", "try_out"]
