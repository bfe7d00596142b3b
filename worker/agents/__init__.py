"""Agents draft proposals. They never run code, open connections of their own, or see the worker's token."""
