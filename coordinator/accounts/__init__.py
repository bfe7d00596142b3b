"""Volunteers and their bearer tokens."""
