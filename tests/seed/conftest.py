"""The harness is no package of ours: a project carries its own copy. Here it is imported from the seed's folder."""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)  # two of them wait for each other where other tests have the cores
sys.path.insert(0, str(Path(__file__).parents[2] / "seed"))
