"""Duties of maintainers and moderators: each action with a reason, an entry in the audit log, and its inverse."""
