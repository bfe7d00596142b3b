"""Sessions of the original autoresearch loop: reading a `results.tsv`, and making a project of it."""
