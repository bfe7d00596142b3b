"""Search over HTTP, on both engines."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from coordinator.findings.search import FUSION, fuse
from shared.findings import SearchHit, SearchPage
from shared.protocol import API_PREFIX
from tests.coordinator.findings.conftest import Author


def search(http: TestClient, words: str, **filters: Any) -> list[SearchHit]:
    response = http.get(f"{API_PREFIX}/findings/search", params={"project": "tiny", "q": words} | filters)
    assert response.status_code == 200, response.text
    return SearchPage.model_validate_json(response.content).items


def ids(hits: list[SearchHit]) -> list[int]:
    return [hit.finding.id for hit in hits]


def test_what_holds_the_rarer_words_comes_first(http: TestClient, author: Author) -> None:
    both = author.write("weight decay on the embeddings", mechanism="It keeps rare tokens small.")
    one = author.write("weight decay on everything")
    author.write("a wider window")
    hits = search(http, "Weight_Decay of EMBEDDING")
    assert ids(hits)[:2] == [both, one] and hits[0].score > hits[1].score
    snippet = hits[0].snippet
    assert [snippet.text[start:end] for start, end in snippet.marks] == ["weight", "decay", "embeddings"]
    assert hits[0].text_rank == 1


def test_a_title_counts_for_more_than_the_text(http: TestClient, author: Author) -> None:
    mentioned = author.write("a larger batch", mechanism="As warmup does.")
    meant = author.write("a longer warmup", mechanism="It settles the batch statistics of the first steps.")
    assert ids(search(http, "warmup"))[:2] == [meant, mentioned]


def test_filters_narrow(http: TestClient, author: Author) -> None:
    good = author.write("dropout off", axis="DROPOUT", metric=3.2)
    bad = author.write("dropout doubled", axis="DROPOUT", metric=3.4, volunteer="grace")
    author.write("dropout crashed", axis="OTHER", metric=None)
    assert ids(search(http, "dropout", axis="dropout")) in ([good, bad], [bad, good])
    assert ids(search(http, "dropout", verdict="improved")) == [good]
    assert ids(search(http, "dropout", volunteer="grace")) == [bad]
    assert ids(search(http, "dropout", effect_above=0.05)) == [bad]
    assert ids(search(http, "dropout", effect_below=-0.05, standing="provisional")) == [good]
    assert ids(search(http, "dropout", hardware_class="none such")) == []
    assert ids(search(http, "dropout", until="2020-01-01T00:00:00Z")) == []
    assert len(ids(search(http, "dropout", failure="crashed"))) == 1
    listed = http.get(f"{API_PREFIX}/findings", params={"project": "tiny", "verdict": "worse"}).json()["items"]
    assert [item["id"] for item in listed] == [bad]


@pytest.mark.parametrize("words", ["\"'", "the of", "NOT AND OR (", "scope : p1", "x" * 900, "漢字 %_", "\x00"])
def test_nothing_that_is_asked_breaks_it(http: TestClient, author: Author, words: str) -> None:
    author.write("a wider model")
    assert isinstance(search(http, words), list)


def test_a_word_of_any_length_is_stored_and_found(http: TestClient, author: Author) -> None:
    number = author.write("a wider model", mechanism="漢" * 4_000)
    assert ids(search(http, "漢" * 900)) == [number]


def test_fusion_prefers_what_both_parts_found() -> None:
    ranked = fuse([1, 2, 3], [3, 4])
    assert ranked[0].finding_id == 3 and ranked[0].score == 1 / (FUSION + 3) + 1 / (FUSION + 1)
    assert {one.finding_id for one in ranked} == {1, 2, 3, 4}
    assert (ranked[0].text_rank, ranked[0].meaning_rank) == (3, 1)
