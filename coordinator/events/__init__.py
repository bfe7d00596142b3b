"""Events: the log of what happened, and the live feed that pages listen to."""
