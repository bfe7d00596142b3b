"""Derives from a lease's seed what a run leaves to chance, so that the edited file cannot foresee its windows.

The edited file is told a seed of 16 bits. About 2^15 seeds of leases have the same 16 bits, and each of them draws
other windows: whatever the file computes, it knows of no window that it is more likely to be scored than another.
Whoever has the lease's seed, as a checker does, draws the same windows again.
"""

from hashlib import sha256

TRAINING_SEEDS = 2**16
"""Different seeds that edited files are told: many enough for random weights, and few beside the seeds of leases."""


def derive_training_seed(seed: int) -> int:
    """The seed of trainer and hosts, below TRAINING_SEEDS."""
    return int.from_bytes(_digest("training", seed)) % TRAINING_SEEDS


def derive_draw(seed: int) -> str:
    """The scorer's source of windows: 64 hexadecimal digits."""
    return _digest("windows", seed).hex()


def derive_substitution(seed: int) -> str:
    """The source of a run's own symbols: 64 hexadecimal digits."""
    return _digest("substitution", seed).hex()


def _digest(purpose: str, seed: int) -> bytes:
    return sha256(f"{purpose} {seed}".encode()).digest()
