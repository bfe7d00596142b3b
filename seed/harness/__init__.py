"""The project's protected part: it prepares data, trains, hosts the model and scores it, each in its own sandbox."""
