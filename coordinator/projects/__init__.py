"""Projects: the contract, and how a seed becomes a project."""
