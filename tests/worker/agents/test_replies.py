"""Reading a model's answers."""

from shared.findings import MAX_FINDING_WORDS
from worker.agents.replies import PaperReply


def make_paper(**changes: object) -> PaperReply:
    words = {"claim": "Depth helps.", "mechanism": "More layers.", "caveats": "One run.", "follow_ups": "Width."}
    return PaperReply.model_validate(words | changes)


def test_a_paper_keeps_what_would_refute_it_and_its_tags() -> None:
    tags = ["Weight decay", "weight-decay", "Muon!", "", "!!", "x" * 200]
    draft = make_paper(refuted_by="No gain in three runs.", tags=tags).to_finding("model")
    assert draft.refuted_by == "No gain in three runs."
    assert draft.tags == ["weight-decay", "muon", "x" * 63]


def test_a_paper_that_is_too_long_loses_its_end() -> None:
    draft = make_paper(mechanism="word " * 240, refuted_by="word " * 40, tags=[str(n) for n in range(40)]).to_finding(
        "m"
    )
    texts = (draft.claim, draft.mechanism, draft.caveats, draft.refuted_by, draft.follow_ups)
    assert sum(len(text.split()) for text in texts) == MAX_FINDING_WORDS
    assert draft.mechanism and draft.refuted_by and not draft.follow_ups and len(draft.tags) == 8
