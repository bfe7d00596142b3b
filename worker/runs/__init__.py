"""The supervisor of a run: three sandboxed processes, one clock, one report."""

from worker.runs.precompile import compile_ahead
from worker.runs.spec import Progress, RunImpossible, RunStopped, TrainingJob
from worker.runs.supervisor import measure, try_out

__all__ = ["Progress", "RunImpossible", "RunStopped", "TrainingJob", "compile_ahead", "measure", "try_out"]
