"""Which job for whom: a pure policy over a small snapshot, and what an agent gets to read."""
