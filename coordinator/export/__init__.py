"""Export: a project's tables in open formats, its results.tsv, and citations of its findings."""
