"""Wire messages with sensible defaults."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from shared.commits import CommitWords, build_blob, build_commit, build_trees
from shared.experiments import AxisDirection, Proposal
from shared.findings import FindingDraft
from shared.leases import ClaimRequest, CommitUpload, GrantedLease, ResultUpload
from shared.protocol import PROTOCOL_VERSION, now
from shared.runs import CurvePoint, DeviceKind, Hardware, RunOutcome, RunReport, RunSeconds
from worker.agents.search_space import read_settings

HARDWARE = Hardware(kind=DeviceKind.CPU, model="Test CPU", memory_mib=8192, cores=2, isa="x86_64-avx2")
AUTHOR = "ada's worker <ada@swarm>"


def claim_request(worker: str = "w1", **changes: Any) -> ClaimRequest:
    fields = {"protocol": PROTOCOL_VERSION, "worker": worker, "agent": "scripted", "hardware": HARDWARE}
    return ClaimRequest.model_validate(fields | changes)


def make_proposal(title: str = "LEARNING_RATE 0.003 → 0.004") -> Proposal:
    return Proposal(
        title=title,
        hypothesis="A larger step learns more in so short a time.",
        axis="LEARNING_RATE",
        direction=AxisDirection.UP,
        value="0.004",
        predicted_effect=-0.01,
        refuted_by="No change beyond the noise.",
        settings={"LEARNING_RATE": 0.004, "DEPTH": 4},
    )


def describe_change(before: Mapping[str, str], after: Mapping[str, str], title: str = "") -> Proposal:
    """The proposal of a change: its axis and value are the constants that differ, as an agent would say."""
    old, new = read_settings(before), read_settings({**before, **after})
    moved = {name: value for name, value in new.items() if old.get(name) != value}
    axis, value = " and ".join(moved) or "code", ", ".join(map(str, moved.values()))
    words = {"title": title or f"{axis} → {value}", "axis": axis, "value": value, "settings": new}
    return make_proposal().model_copy(update=words)


def make_run(commit_sha: str, metric: float | None = 3.2, **changes: Any) -> RunReport:
    outcome = RunOutcome.OK if metric is not None else RunOutcome.CRASHED
    fields: dict[str, Any] = {
        "id": uuid4(),
        "commit_sha": commit_sha,
        "seed": 7,
        "outcome": outcome,
        "metric": metric,
        "started_at": now() - timedelta(seconds=29),
        "finished_at": now(),
        "seconds": RunSeconds(starting=4, training=20, scoring=5, total=29),
        "steps": 200,
        "tokens": 400_000,
        "curve": [CurvePoint(step=step, seconds=step / 10, loss=5.5 - step / 100) for step in range(0, 200, 20)],
        "hardware": HARDWARE,
        "sandbox": "bubblewrap",
        "limits": ["system_calls_filtered", "cores_held"],
    }
    return RunReport.model_validate(fields | changes)


def make_commit(parent_sha: str, parent_files: dict[str, str], files: dict[str, str]) -> CommitUpload:
    """A commit as a worker builds it: `parent_files` are all files of the parent, `files` the changed ones."""
    words = CommitWords(author=AUTHOR, authored_at=1_790_000_000, message="Try a larger learning rate\n")
    blobs = {path: build_blob(text).sha for path, text in (parent_files | files).items()}
    tree_sha, _ = build_trees(blobs)
    sha = build_commit(tree_sha, parent_sha, words).sha
    return CommitUpload(sha=sha, parent_sha=parent_sha, files=files, author=words.author,
                        authored_at=words.authored_at, message=words.message)  # fmt: skip


def make_result(
    lease: GrantedLease, parent_files: dict[str, str], files: dict[str, str], metric: float | None = 3.2, **changes: Any
) -> ResultUpload:
    """The result of an experiment."""
    commit = make_commit(lease.base.sha, parent_files, files)
    return ResultUpload(
        run=make_run(commit.sha, metric, **changes),
        commit=commit,
        proposal=make_proposal(),
        finding=FindingDraft(claim="A larger learning rate helps, on one run.", agent="scripted"),
    )
