"""Several commits' editable files in one answer."""

from tests.support.seeds import TRAIN
from tests.support.volunteers import MiniWorker


def test_editable_files_of_several_commits(worker: MiniWorker) -> None:
    worker.measure_root()
    lease, reply = worker.experiment("DEPTH = 5\n")
    sha = worker.get_json(f"/experiments/{reply.experiment_id}")["sha"]
    commits = worker.get_json(f"/projects/tiny/commits/editable?sha={lease.root_sha}&sha={sha}&sha={sha}")["items"]
    assert [(commit["sha"], commit["files"]) for commit in commits] == [
        (lease.root_sha, {"train.py": TRAIN}),
        (sha, {"train.py": "DEPTH = 5\n"}),
    ]
    unknown = worker.http.get(f"/api/v1/projects/tiny/commits/editable?sha={'0' * 40}")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/not-found")
    many = "&".join(f"sha={number:040x}" for number in range(33))
    assert worker.http.get(f"/api/v1/projects/tiny/commits/editable?{many}").status_code == 422
