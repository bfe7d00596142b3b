"""Findings: the mini-papers that agents leave behind. Numbers stay in the database's own tables."""
