"""The project's protected part: it prepares data, trains, hosts the model and scores it, each in its own sandbox."""

import gc
import sys

if sys.argv[0] == "-m":  # a process of the harness begins, which `run` in channel.py finishes
    gc.disable()  # looking for garbage takes up to a third of the time of imports, and finds none
