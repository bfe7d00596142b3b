"""worker/agents/markup.py: what stands between two marks, as a pattern with `.*?` would find it."""

import re

import pytest

from worker.agents.markup import replace_between

OPENING, CLOSING = re.compile("<a>"), re.compile("</a>")


@pytest.mark.parametrize(
    "text",
    ["", "x", "<a>", "</a>", "<a></a>", "0<a>1</a>2<a>3</a>4", "</a><a>1", "<a>1<a>2</a>3</a>4",
     "</a>0<a>1</a></a>", "<a></a><a>"],
)  # fmt: skip
def test_each_opening_mark_goes_with_the_next_closing_one(text: str) -> None:
    assert replace_between(text, OPENING, CLOSING) == re.sub("<a>.*?</a>", "", text)
    assert replace_between(text, OPENING, CLOSING, "[{}]".format) == re.sub("<a>(.*?)</a>", r"[\1]", text)
