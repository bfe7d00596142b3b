"""Leases: claim, heartbeat, proposal, release, and the delivery of a result."""
