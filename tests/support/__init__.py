"""Builders and fakes that several tests use."""
