"""Evidence: from runs to posteriors and verdicts."""
