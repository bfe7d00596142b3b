"""Every model that crosses the wire has bounds on each number and text, and says which field breaks them."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, StrictInt, TypeAdapter, ValidationError

from shared.experiments import ProposalSubmission
from shared.leases import ClaimRequest, Heartbeat, OfflineLease, ReleaseRequest, ResultUpload
from shared.protocol import CLEAN, PROTOCOL_VERSION, Message, ShortText, Timestamp, clean_text
from shared.workers import WorkerNotice
from tests.support import wire
from tests.support.examples import choose_examples
from worker.runs import harness_protocol

MODELS = wire.list_models()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_number_text_and_time_has_bounds(model: type[Message]) -> None:
    assert wire.list_unbounded(model) == []


def test_no_text_is_read_as_a_number_nor_a_number_as_a_truth_value() -> None:
    class Lenient(Message):
        half: StrictInt | None
        several: list[Annotated[float, Field(ge=0, le=1)]]
        table: dict[ShortText, bool]

    assert len(wire.list_lenient(Lenient)) == 2
    harness = [model for model in Message.__subclasses__() if model.__module__ == harness_protocol.__name__]
    assert len(harness) > 20
    assert [found for model in (*MODELS, *harness) for found in wire.list_lenient(model)] == []


def test_no_number_is_read_as_a_time() -> None:
    for stated in (1.78e9, "1780000000", "1.78E9", "+1.78e+9"):
        with pytest.raises(ValidationError, match="must be a time such as"):
            TypeAdapter(Timestamp).validate_python(stated)


def test_a_harness_may_write_numbers_as_in_earlier_releases() -> None:
    scored = harness_protocol.read_message(b'{"kind": "scored", "metric": 1, "scored_bytes": 8192.0}')
    assert scored == harness_protocol.Scored(metric=1.0, scored_bytes=8192)


def test_a_model_without_bounds_is_found() -> None:
    class Careless(Message):
        count: int
        half: int | None
        share: float
        words: str
        several: list[str]
        table: dict[str, ShortText]
        anything: Any

    assert len(MODELS) > 80 and Careless not in MODELS
    fields = {path.removeprefix("Careless.") for path in wire.list_unbounded(Careless)}
    assert fields == {"count", "share", "words", "several", "table", "anything", "half"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@given(data=st.data())
@settings(max_examples=choose_examples(6, 1000))
def test_what_is_accepted_comes_back_from_json(model: type[Message], data: st.DataObject) -> None:
    message = model.model_validate(data.draw(wire.draw_messages(model)))
    assert model.model_validate_json(message.model_dump_json()) == message


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@given(data=st.data())
@settings(max_examples=choose_examples(6, 1000))
def test_what_is_out_of_bounds_is_refused_by_the_fields_name(model: type[Message], data: st.DataObject) -> None:
    document = data.draw(wire.draw_messages(model))
    leaves = wire.list_leaves(model, document)
    if not leaves:
        return
    leaf = data.draw(st.sampled_from(leaves))
    with pytest.raises(ValidationError) as caught:
        model.model_validate(wire.replace_leaf(document, leaf.path, data.draw(wire.draw_wrong(leaf))))
    assert any(wire.names_path(error["loc"], leaf.path) for error in caught.value.errors()), leaf.path


SENT = (ClaimRequest, ProposalSubmission, Heartbeat, ReleaseRequest, ResultUpload, OfflineLease, WorkerNotice)
FIELDS_OF_PROTOCOL = {6: "f52cd16fba716c00"}
"""Digest of the fields that workers send. Older coordinators refuse new ones, so new fields need a new protocol."""


def test_new_fields_of_workers_come_with_a_new_protocol() -> None:
    assert {PROTOCOL_VERSION: digest_fields(SENT)} == FIELDS_OF_PROTOCOL


def digest_fields(models: Sequence[type[Message]]) -> str:
    schemas = [model.model_json_schema() for model in models]
    parts = [part for schema in schemas for part in (schema, *schema.get("$defs", {}).values())]
    names = {f"{part['title']}.{name}" for part in parts for name in part.get("properties", {})}
    return sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def test_controls_and_overrides_of_direction_are_removed_and_writing_is_not() -> None:
    assert clean_text("a\x00b\x1b[31mc\u202etxt\u2066d\u2069\ud800e\x7f\x85") == "ab[31mctxtde"
    assert clean_text("a\u200bb\ufeffc\u2060d" + "".join(chr(0xE0000 + ord(letter)) for letter in "obey")) == "abcd"
    writing = "שלום, עולם", "مرحبا\u200f 3.2", "naïve — 学习率 🐝", "tab\tline\nreturn\r"
    for honest in (*writing, "zwj 👩\u200d💻", "می\u200cخواهم"):
        assert clean_text(honest) == honest
    assert clean_text(7) == 7 and CLEAN.func is clean_text
    for unseen in ("\u200b\u2060", "\u200d", " \u200e\u00ad", "\u0301\ufe0f"):
        with pytest.raises(ValidationError):
            TypeAdapter(ShortText).validate_python(unseen)
    assert TypeAdapter(ShortText).validate_python("  é … 🐝 ") == "é … 🐝"
