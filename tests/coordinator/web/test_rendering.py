"""Rendering: static files and their caching, numbers, and strangers' text as HTML."""

import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.lineage.service import diff_files
from coordinator.web import rendering
from coordinator.web.rendering import MAX_COLOURED_LINES, format_count, format_seconds, render_diff, render_markdown


def test_an_address_names_its_contents_version(http: TestClient, project: str) -> None:
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', http.get(f"/projects/{project}").text)
    assert len(addresses) == 6, "two styles, icon, keys, script and uPlot"
    for address in addresses:
        response = http.get(address)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"], address
    version = sha256((rendering.STATIC_FOLDER / "swarm.css").read_bytes()).hexdigest()[:12]
    assert f"/static/swarm.css?v={version}" in addresses


def test_what_a_script_imports_is_asked_about(http: TestClient) -> None:
    response = http.get("/static/feed.js")
    assert response.headers["cache-control"] == "no-cache"
    assert http.get("/static/feed.js", headers={"If-None-Match": response.headers["etag"]}).status_code == 304


def test_nothing_outside_the_folder_is_served(http: TestClient) -> None:
    for path in ("/static/../pages.py", "/static/%2e%2e/pages.py", "/static/none.js"):
        assert http.get(path).status_code == 404


def test_counts_and_seconds() -> None:
    assert format_count(400_000) == "400,000"
    assert format_count(0) == "–"
    assert format_count(512, " MiB") == "512 MiB"
    assert format_seconds(19.84) == "19.8 s"
    assert format_seconds(312.4) == "5 min 12 s"


def test_markdown_keeps_what_a_finding_needs() -> None:
    html = render_markdown("**Wider** is `better`:\n\n- [paper](https://example.org/p)")
    assert "<strong>Wider</strong>" in html and "<code>better</code>" in html and "<li>" in html
    assert '<a href="https://example.org/p" rel="nofollow noopener noreferrer">paper</a>' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html,alert)",
        "![pixel](https://example.org/p.png)",
        "<a href='https://example.org' onclick='alert(1)'>x</a>",
        "# heading\n\n<iframe src=//example.org></iframe>",
    ],
)
def test_markdown_cannot_act(text: str) -> None:
    tags = set(re.findall(r"<(\w+)", render_markdown(text)))
    assert tags <= {"p", "a"}
    assert not re.search(r"<a[^>]*(javascript|data:|onclick)", render_markdown(text))


def kinds(html: str) -> list[str]:
    return re.findall(r'<span class="line (\w+)">', html)


def test_a_diffs_lines_are_told_apart_by_counting() -> None:
    diff = diff_files({"a.py": "-- x\nsame\n", "b.py": "gone = 1\n"}, {"a.py": "++ y\nsame\n"})
    assert kinds(render_diff(diff)) == [
        "head", "head", "head", "removed", "added", "same",
        "head", "head", "head", "removed",
    ]  # fmt: skip


HIDING = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"]


@pytest.mark.parametrize("end", HIDING)
def test_no_change_hides_in_what_others_take_for_the_end_of_a_line(end: str, tmp_path: Path) -> None:
    """A comment that a line feed ends becomes code; git takes no other character for one."""
    before, after = {"a.py": f"# note{end}attack()\nsame"}, {"a.py": "# note\nattack()\nsame"}
    diff = diff_files(before, after)
    (tmp_path / "a.py").write_text(before["a.py"], newline="")
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=diff.encode(), check=True)
    assert (tmp_path / "a.py").read_bytes() == after["a.py"].encode(), "somebody may apply it"
    shown = render_diff(diff)
    assert kinds(shown) == [*["head"] * 3, "removed", "added", "added", "same", "head"]
    assert end not in shown and f"&lt;U+{ord(end):04X}&gt;" in re.sub("<[^>]+>", "", shown)
    without = diff_files({"a.py": "x\n"}, {"a.py": "x"})
    assert kinds(render_diff(without)) == [*["head"] * 3, "removed", "added", "head"], "nor in the file's end"


def test_code_in_a_diff_is_escaped_and_coloured() -> None:
    html = render_diff(diff_files({"a.py": ""}, {"a.py": "x = '<script>'  # <b>\n"}))
    assert "<script>" not in html and "<b>" not in html and "&lt;script&gt;" in html
    assert '<span class="c1"># &lt;b&gt;</span>' in html


def test_a_long_diff_is_shown_without_colours() -> None:
    html = render_diff(diff_files({"a.py": ""}, {"a.py": "x = '<script>'\n" * (MAX_COLOURED_LINES + 1)}))
    assert kinds(html).count("added") == MAX_COLOURED_LINES + 1
    assert 'class="n"' not in html and "<script>" not in html
