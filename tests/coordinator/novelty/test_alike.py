"""Proposals that are much like others, over the API: shown, insisted upon, and free again once nobody is at them."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.models import Embedding, Lease
from shared.experiments import AxisDirection, JobKind, Proposal, ProposalReply, ProposalSubmission
from shared.leases import GrantedLease as LeaseGrant
from shared.leases import ResultUpload
from shared.runs import RunOutcome
from tests.coordinator.leases.conftest import clock as clock
from tests.support.clock import Clock
from tests.support.messages import HARDWARE, describe_change, make_result, make_run
from tests.support.seeds import TRAIN
from tests.support.volunteers import MiniWorker

NORM = "\n\ndef norm(x):\n    return x / rms(x) * gain\n"
NORM_AGAIN = "\n\ndef normalise(h):\n    scale = gain\n    return h / rms(h) * scale\n"
RELU = "\n\ndef activation(x):\n    return relu(x) ** 2\n"
RMS = ("RMSNorm with a learnable gain", "A learnable gain lets each layer set its own scale.", "normalisation")
RMS_AGAIN = (
    "Give RMSNorm a gain that is learnt",
    "Each layer may then set the scale of its own output.",
    "norm layers",
)
SQUARED = ("Squared ReLU in the MLP", "Sparser activations train faster at this size.", "activation")


def in_words(words: tuple[str, str, str], **changes: Any) -> Proposal:
    title, hypothesis, axis = words
    proposal = Proposal(title=title, hypothesis=hypothesis, axis=axis, direction=AxisDirection.CHANGE)
    return proposal.model_copy(update=changes)


@pytest.fixture
def crew(app: FastAPI, worker: MiniWorker, make_worker: Callable[..., MiniWorker]) -> list[MiniWorker]:
    """Two workers that have measured the seed, of a coordinator that has its index of vectors."""
    assert app.state.similarity.embedder.near < 1
    app.state.similarity.prepare()
    both = [worker, make_worker("w2", "bob")]
    for one in both:
        one.measure_root()
    return both


def propose(worker: MiniWorker, lease: LeaseGrant, text: str, proposal: Proposal, **changes: Any) -> ProposalReply:
    submission = ProposalSubmission(token=lease.token, proposal=proposal, files={"train.py": text}, **changes)
    response = worker.post(f"/leases/{lease.id}/proposal", submission)
    assert response.status_code == 200, response.text
    return ProposalReply.model_validate_json(response.content)


def deliver(
    worker: MiniWorker, lease: LeaseGrant, text: str, proposal: Proposal, metric: float | None, **changes: Any
) -> httpx.Response:
    upload = make_result(lease, worker.files_of(lease), {"train.py": text}, metric, **changes)
    return worker.deliver(lease, upload.model_copy(update={"proposal": proposal}))


def test_the_same_idea_in_other_words_is_shown_and_may_be_insisted_upon(
    crew: list[MiniWorker], database: Database
) -> None:
    first, second = crew
    lease, other = first.claim_job(), second.claim_job()
    assert propose(first, lease, TRAIN + NORM, in_words(RMS)).accepted
    reply = propose(second, other, TRAIN + NORM_AGAIN, in_words(RMS_AGAIN))
    assert not reply.accepted and "say why" in reply.reason and reply.duplicate_of is None
    (running,) = reply.similar
    assert (running.title, running.outcome, running.experiment_id) == (RMS[0], "running", None)
    assert running.similarity is not None and 0.65 <= running.similarity < 1
    assert propose(second, other, TRAIN + RELU, in_words(SQUARED)).accepted, "another idea is another idea"
    assert deliver(first, lease, TRAIN + NORM, in_words(RMS), 3.2).status_code == 201
    other = second.claim_job()
    base = other.base.files["train.py"]
    (finished,) = propose(second, other, base + NORM_AGAIN, in_words(RMS_AGAIN)).similar
    assert finished.experiment_id == 1 and finished.outcome == "ok" and finished.effect_mean is not None
    insisting = in_words(RMS_AGAIN, insists="The gain sits before the residual here, and not after it.")
    assert propose(second, other, base + NORM_AGAIN, insisting).accepted
    stored = deliver(second, other, base + NORM_AGAIN, insisting, 3.1).json()
    assert second.get_json(f"/experiments/{stored['experiment_id']}")["insists"] == insisting.insists
    with database.read() as session:
        assert len(session.scalars(select(Embedding)).all()) == 3


def test_the_same_step_of_a_constant_is_shown_on_any_parent(crew: list[MiniWorker]) -> None:
    first, second = crew
    lease, other = first.claim_job(), second.claim_job()
    wider = TRAIN.replace("0.003", "0.004")
    assert first.propose(lease, {"train.py": wider}).accepted
    alike = wider.replace("0.004", "0.0041")
    (running,) = second.propose(other, {"train.py": alike}).similar
    assert (running.axis, running.value, running.similarity) == ("LEARNING_RATE", "0.004", None)
    assert second.propose(other, {"train.py": TRAIN.replace("0.003", "0.006")}).accepted
    deeper = TRAIN.replace("DEPTH = 4", "DEPTH = 5")
    third = second.claim_job(holding=[str(other.id)])
    assert second.propose(third, {"train.py": deeper}).accepted
    assert deliver(second, third, deeper, describe_change(third.base.files, {"train.py": deeper}), 3.1).is_success
    assert deliver(first, lease, wider, describe_change(lease.base.files, {"train.py": wider}), 3.35).is_success
    lease = first.claim_job()
    assert lease.base.files["train.py"] == deeper, "another parent"
    both = deeper.replace("0.003", "0.004")
    (elsewhere,) = first.propose(lease, {"train.py": both}).similar
    assert (elsewhere.outcome, elsewhere.title) == ("ok", "a change")
    insisting = describe_change(lease.base.files, {"train.py": both}).model_copy(update={"insists": "Deeper now."})
    assert propose(first, lease, both, insisting).accepted


@pytest.mark.parametrize("ending", ["given back", "run out", "crashed"])
def test_ideas_are_free_again_once_nobody_is_at_them(crew: list[MiniWorker], clock: Clock, ending: str) -> None:
    first, second = crew
    wider, words = TRAIN.replace("0.003", "0.004"), in_words(RMS)
    leases = [first.claim_job()]
    leases.append(first.claim_job(holding=[str(leases[0].id)]))
    assert first.propose(leases[0], {"train.py": wider}).accepted
    assert propose(first, leases[1], TRAIN + NORM, words).accepted
    if ending == "given back":
        assert all(first.release(lease).is_success for lease in leases)
    elif ending == "run out":
        clock.jump(200)
    else:
        moved = describe_change(leases[0].base.files, {"train.py": wider})
        assert deliver(first, leases[0], wider, moved, None).is_success
        assert deliver(first, leases[1], TRAIN + NORM, words, None).is_success
    mine = [second.claim_job()]
    mine.append(second.claim_job(holding=[str(mine[0].id)]))
    assert second.propose(mine[0], {"train.py": wider.replace("0.004", "0.0041")}).accepted
    assert propose(second, mine[1], TRAIN + NORM_AGAIN, in_words(RMS_AGAIN)).accepted


def test_code_that_a_crash_of_the_machine_left_unmeasured_is_measured(crew: list[MiniWorker]) -> None:
    """Not as a second experiment, but as a run of its commit; one that crashed by itself is told, and that is all."""
    first, second = crew
    wider, longer = TRAIN.replace("0.003", "0.004"), TRAIN.replace("0.003", "0.009")
    for text, crash in ((wider, {"reason": "killed"}), (longer, {"reason": "nan", "frame": "train.py:3 in run"})):
        lease = first.claim_job()
        moved = describe_change(lease.base.files, {"train.py": text})
        assert propose(first, lease, text, moved).accepted
        assert deliver(first, lease, text, moved, None, **crash).is_success
    lease = second.claim_job()
    reply = propose(second, lease, longer, describe_change(lease.base.files, {"train.py": longer}), may_measure=True)
    assert (reply.accepted, reply.measure, reply.duplicate_of) == (False, None, 2)
    looks = wider + "# the same\n"
    reply = propose(second, lease, looks, describe_change(lease.base.files, {"train.py": wider}))
    assert (reply.accepted, reply.measure, reply.duplicate_of) == (False, None, 1)
    moved = describe_change(lease.base.files, {"train.py": wider})
    for _ in range(2):  # the second time as if the answer had been lost
        reply = propose(second, lease, looks, moved, may_measure=True)
        assert not reply.accepted and reply.measure == second.get_json("/experiments/1")["sha"]
    upload = ResultUpload(run=make_run(reply.measure or "", 3.2))
    stored = second.deliver(lease, upload)
    assert stored.status_code == 201 and stored.json()["experiment_id"] == 1
    assert stored.json()["posterior"]["runs"] == 1


OWN_FRAME = "train.py:3 in run"


@pytest.mark.parametrize(
    ("end", "is_bar_elsewhere"),
    [
        ({"reason": "out of memory: CUDA out of memory", "frame": OWN_FRAME}, False),
        ({"reason": "train.py raised OutOfResources: out of resource: shared memory", "frame": OWN_FRAME}, False),
        ({"outcome": RunOutcome.TIMEOUT, "reason": "starting took more than 300 s"}, False),
        ({"reason": "train.py raised KeyError: 'x'", "frame": OWN_FRAME}, True),
        ({"outcome": RunOutcome.INVALID, "reason": "a logit is not a finite number"}, True),
    ],
    ids=["memory", "compiler", "time", "mistake", "invalid"],
)
def test_what_a_machine_refused_says_nothing_of_other_hardware_classes(
    crew: list[MiniWorker], make_worker: Callable[..., MiniWorker], end: dict[str, Any], is_bar_elsewhere: bool
) -> None:
    first, second = crew
    wider = TRAIN.replace("0.003", "0.004")
    lease = first.claim_job()
    moved = describe_change(lease.base.files, {"train.py": wider})
    assert propose(first, lease, wider, moved).accepted
    assert deliver(first, lease, wider, moved, None, **end).is_success
    reply = propose(second, second.claim_job(), wider, moved, may_measure=True)
    assert (reply.accepted, reply.measure, reply.duplicate_of) == (False, None, 1), "it would fail here again"
    elsewhere, other = make_worker("w3", "cid"), HARDWARE.model_copy(update={"cores": 64})
    while not (lease := elsewhere.claim_job(hardware=other)).kind.makes_experiment:
        run = make_run(lease.base.sha, 3.3, hardware=other)
        assert elsewhere.deliver(lease, ResultUpload(run=run)).is_success
    reply = propose(elsewhere, lease, wider, moved, may_measure=True)
    assert (reply.accepted, reply.measure is None) == (False, is_bar_elsewhere)


def test_a_gain_that_is_proposed_again_by_others_is_measured_again(crew: list[MiniWorker], database: Database) -> None:
    first, second = crew
    lease, other = first.claim_job(), second.claim_job()
    wider = TRAIN.replace("0.003", "0.004")
    moved = describe_change(lease.base.files, {"train.py": wider})
    assert propose(first, lease, wider, moved).accepted
    assert deliver(first, lease, wider, moved, 3.2).is_success
    own = propose(first, first.claim_job(), wider, moved, may_measure=True)
    assert own.measure is None, "nobody verifies what is their own"
    reply = propose(second, other, wider, moved, may_measure=True)
    assert reply.measure is not None and not reply.accepted
    with database.read() as session:
        row = session.get_one(Lease, other.id)
        assert (row.kind, row.base_sha) == (JobKind.REPLICATE, reply.measure)
        assert "exactly these files" in row.why
        assert not row.is_check, "the volunteer chose it, so it verifies nothing"
    assert first.claim_job().kind.makes_experiment, "the job under way has no proposal to show to others"
    assert second.deliver(other, ResultUpload(run=make_run(reply.measure, 3.21))).status_code == 201
    posterior = second.get_json("/experiments/1")["posterior"]
    assert (posterior["runs"], posterior["checkers"]) == (2, 0)
