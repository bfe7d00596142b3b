"""Shared by coordinator, worker and client: wire models, the contract, and git objects."""
