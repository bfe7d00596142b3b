"""Experiments: storing them, listing them, and the progress of a project."""
