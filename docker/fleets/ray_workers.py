"""Starts workers on a Ray cluster, one task for each. A task is started again when its node is lost.

ray job submit --working-dir docker/fleets \
    --runtime-env-json '{"env_vars": {"SWARM_COORDINATOR_URL": "https://...", "SWARM_TOKEN": "swt_..."}}' \
    -- python ray_workers.py --workers 8

What follows `--` are flags of swarm-worker, which must be installed on the nodes, as in the worker's image.
"""

import argparse
import os
import subprocess
import sys

import ray

OK_OR_NOTHING_TO_DO = {0, 75}


@ray.remote(max_retries=-1)
def work(number: int, flags: list[str]) -> int:
    """Run one worker until it ends; its exit status. Ray ends it with the task."""
    environment = os.environ | {"SWARM_NAME": f"ray-{number}"}
    return subprocess.run(["swarm-worker", "--plain", *flags], env=environment, check=False).returncode  # noqa: S603, S607


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=1, help="for each worker")
    parser.add_argument("--cpus", type=float, default=4, help="for each worker")
    parser.add_argument("flags", nargs="*", default=["--gpu", "all"])
    given = parser.parse_args()
    ray.init()
    task = work.options(num_gpus=given.gpus, num_cpus=given.cpus)
    found = ray.get([task.remote(number, given.flags) for number in range(given.workers)])
    return 0 if set(found) <= OK_OR_NOTHING_TO_DO else 1


if __name__ == "__main__":
    sys.exit(main())
