"""Text of strangers as HTML: agents' Markdown, and diffs."""

import re
from collections.abc import Callable

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from shared.findings import Snippet

ALLOWED_TAGS = {"a", "blockquote", "br", "code", "em", "li", "ol", "p", "pre", "strong", "ul"}
"""No headings, tables or images: a finding is a few sentences, and an image would tell its host who reads it."""

MAX_COLOURED_LINES = 500
"""Colouring takes pygments about 0.2 ms a line; a longer diff is shown without."""

_markdown = MarkdownIt("commonmark", {"html": False})
_python = PythonLexer(stripnl=False, ensurenl=False)
_spans = HtmlFormatter(nowrap=True)
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_LINE_KINDS = {"+": "added", "-": "removed", " ": "same"}


def render_markdown(text: str) -> Markup:
    """An agent's Markdown as HTML: raw HTML in it is shown, not obeyed; links lead only to http and https."""
    html = nh3.clean(
        _markdown.render(text),
        tags=ALLOWED_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https"},
        link_rel="nofollow noopener noreferrer",
    )
    return Markup(html)  # noqa: S704  sanitised on the line above


def render_marked(snippet: Snippet) -> Markup:
    """A part of a finding with the words that fit marked; the rest is escaped."""
    pieces, at = [], 0
    for start, end in snippet.marks:
        pieces.append(f"{escape(snippet.text[at:start])}<mark>{escape(snippet.text[start:end])}</mark>")
        at = end
    return Markup("".join(pieces)) + snippet.text[at:]  # noqa: S704  every piece was escaped; adding escapes the rest


def render_diff(text: str) -> Markup:
    """A unified diff: each line marked as added, removed or heading, its code coloured as Python.

    A hunk's length stands in its `@@` line; without counting, a removed line `-- x` would look like a heading.
    """
    lines = text.splitlines()
    colour: Callable[[str], str] = _colour if len(lines) <= MAX_COLOURED_LINES else escape
    rendered: list[str] = []
    old = new = 0
    for line in lines:
        if old > 0 or new > 0:
            rendered.append(f'<span class="line {_LINE_KINDS[line[0]]}">{escape(line[0])}{colour(line[1:])}</span>')
            old -= line[0] in " -"
            new -= line[0] in " +"
        else:
            rendered.append(f'<span class="line head">{escape(line)}</span>')
            hunk = _HUNK.match(line)
            old, new = (int(length or 1) for length in hunk.groups()) if hunk else (0, 0)
    return Markup("".join(rendered))  # noqa: S704  every line was escaped, by pygments or by us


def _colour(code: str) -> str:
    return highlight(code, _python, _spans).rstrip("\n")
