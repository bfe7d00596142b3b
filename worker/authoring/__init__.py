"""For people who write seeds: run a work tree by hand, measure its noise, check it, start a new one."""
