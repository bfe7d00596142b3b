"""What several tests need: a small seed, wire messages with sensible defaults, and a worker in miniature."""
