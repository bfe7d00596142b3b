"""The coordinator: one FastAPI application over one SQL database, which is the whole state of a swarm."""
