"""Renders templates: their filters and globals, strangers' text as HTML, and the addresses of static files."""

import re
from collections.abc import Callable, Set
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import nh3
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from coordinator.http.prefix import root
from coordinator.web.navigation import list_places, list_tabs
from coordinator.web.sessions import current_request, find_visitor, make_form_token, sign_in_address, take_message
from shared.findings import Snippet
from shared.formatting import (
    clean_lines,
    count_noun,
    format_change,
    format_effect,
    format_measure,
    format_ratio,
    format_run,
)

STATIC_FOLDER = Path(__file__).parent / "static"
KEEP_FOREVER = "public, max-age=31536000, immutable"

ALLOWED_TAGS = frozenset(("a", "blockquote", "br", "code", "em", "li", "ol", "p", "pre", "strong", "ul"))
"""No headings, tables or images: a finding is a few sentences, and an image would tell its host who reads it."""

MAX_COLOURED_LINES = 500
"""Maximum lines of a diff that are coloured, which takes pygments about 0.2 ms a line."""

_markdown = MarkdownIt("commonmark", {"html": False})
_python = PythonLexer(stripnl=False, ensurenl=False)
_spans = HtmlFormatter(nowrap=True)
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_LINE_KINDS = {"+": "added", "-": "removed", " ": "same", "\\": "head"}


def render(template: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A page. `template` is its path below `templates/`. Browsers ask for a page again each time."""
    html = _environment.get_template(template).render(_view_site() | context)
    return HTMLResponse(html, status_code=status_code, headers={"Cache-Control": "no-cache"})


def render_part(template: str, **context: Any) -> str:
    """A part of a page, which is the same for everybody."""
    return _environment.get_template(template).render(context)


def _view_site() -> dict[str, Any]:
    """The layout's part of a page: links, the account that is signed in, a message."""
    request = current_request()
    if request is None:
        return {"request": None, "visitor": None, "places": [], "message": None}
    visitor = find_visitor(request)
    return {
        "request": request,
        "visitor": visitor,
        "places": list_places(request, visitor, getattr(request.state, "waiting", 0)),
        "message": take_message(request),
    }


class CachedStaticFiles(StaticFiles):
    """Static files. A browser keeps an address with `?v=` for a year, and asks again for one without."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = scope.get("query_string", b"").startswith(b"v=")
        response.headers["Cache-Control"] = KEEP_FOREVER if versioned else "no-cache"
        return response


def static_url(name: str) -> str:
    """The address of a file in `static/`, with the version of its content."""
    return f"{root()}/static/{name}?v={_hash_file(name)}"


@cache
def _hash_file(name: str) -> str:
    return sha256((STATIC_FOLDER / name).read_bytes()).hexdigest()[:12]


def format_seconds(seconds: float | None) -> str:
    """`19.8 s`, or `5 min 12 s` from two minutes on; `–` where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def format_count(count: int | None, unit: str = "") -> str:
    """`400,000`; `–` for what is not known, and for zero, by which a worker reports that it did not count."""
    return f"{count:,}{unit}" if count else "–"


def format_utc(moment: datetime) -> str:
    """`2026-03-01 12:00:00 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def render_markdown(text: str, *, tags: Set[str] = ALLOWED_TAGS) -> Markup:
    """An agent's Markdown as HTML. Raw HTML is shown as text; links lead only to http and https."""
    html = nh3.clean(
        _markdown.render(text), tags=set(tags), attributes={"a": {"href"}}, url_schemes={"http", "https"},
        link_rel="nofollow noopener noreferrer",
    )  # fmt: skip
    return Markup(html)  # noqa: S704  sanitised on the line above


def escape_markdown(text: str) -> str:
    """A stranger's words in Markdown, without the characters that would mean something there."""
    return " ".join("".join(f"\\{sign}" if sign in r"\`*_{}[]<>#|!&~" else sign for sign in text).split())


def render_marked(snippet: Snippet) -> Markup:
    """A part of a finding with the matching words marked; the rest is escaped."""
    pieces, at = [], 0
    for start, end in snippet.marks:
        pieces.append(f"{escape(snippet.text[at:start])}<mark>{escape(snippet.text[start:end])}</mark>")
        at = end
    return Markup("".join(pieces)) + snippet.text[at:]  # noqa: S704  every piece was escaped; adding escapes the rest


def render_diff(text: str) -> Markup:
    """A unified diff: each line marked as added, removed or heading, its code coloured as Python. What nobody sees in
    it, or shows it in another order, stands as `<U+202E>`.

    The length in a hunk's `@@` line is counted down; otherwise a removed line `-- x` would look like a heading.
    """
    lines = clean_lines(text).removesuffix("\n").split("\n")
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


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "count": format_count, "seconds": format_seconds, "markdown": render_markdown, "diff": render_diff,
    "marked": render_marked, "plain": escape_markdown, "utc": format_utc,
    "words": lambda value: str(value).replace("_", " "),
}  # fmt: skip
_environment.globals |= {
    "root": root, "static_url": static_url, "measure": format_measure, "one_run": format_run, "effect": format_effect,
    "ratio": format_ratio, "change": format_change,
    "count_noun": count_noun, "list_tabs": list_tabs, "sign_in_address": sign_in_address,
    "make_form_token": make_form_token,
}  # fmt: skip
