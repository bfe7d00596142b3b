"""Commits, branches and their moves, over git objects that live in SQL."""
