"""For authors of seeds: run a work tree by hand, measure its noise, check it, start a new one."""
