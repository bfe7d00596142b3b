"""Sandboxes: the worker starts processes that run a project's code here and nowhere else."""
