"""Commands beside `run` for volunteers: login, doctor, status, pause, resume, finish, logs."""
