"""Text of strangers as HTML: agents' Markdown, and diffs."""

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import DiffLexer

ALLOWED_TAGS = {"a", "blockquote", "br", "code", "em", "li", "ol", "p", "pre", "strong", "ul"}
"""No headings, tables or images: a finding is a few sentences, and an image would tell its host who reads it."""

_markdown = MarkdownIt("commonmark", {"html": False})
_diff_lexer = DiffLexer()
_diff_formatter = HtmlFormatter(nowrap=True)


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


def render_diff(text: str) -> Markup:
    """A unified diff with a class for each kind of line; the style sheet gives them colours in both themes."""
    return Markup(highlight(text, _diff_lexer, _diff_formatter))  # noqa: S704  pygments escapes all text
