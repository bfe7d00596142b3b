"""The researcher's side: a small typed client of the API, and the command line `swarm`."""

from swarm.client import Client as Client
from swarm.client import CoordinatorError as CoordinatorError
