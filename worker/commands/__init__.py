"""Commands beside `run` for volunteers: login and tokens, doctor, mcp, status, pause, resume, finish, logs, service."""
