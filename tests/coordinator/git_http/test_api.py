"""The git remote over HTTP: malformed requests, and requests of unusual clients."""

import gzip
import time
from pathlib import Path
from random import Random

import httpx

from coordinator.git_http.api import MAX_REQUEST_BYTES
from coordinator.git_http.protocol import frame
from tests.coordinator.git_http.conftest import Upstream
from tests.support.databases import ON_ONE_ENGINE
from tests.support.git import Git

pytestmark = ON_ONE_ENGINE


def post(upstream: Upstream, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{upstream.url}/git-upload-pack", content=body, headers=headers, timeout=60)


def ask(upstream: Upstream, *lines: str) -> bytes:
    """One request; an empty line is a flush-pkt."""
    return post(upstream, b"".join(frame(line) if line else b"0000" for line in lines)).content


def test_refs_are_advertised_in_one_way(upstream: Upstream) -> None:
    response = httpx.get(
        f"{upstream.url}/info/refs?service=git-upload-pack", headers={"Git-Protocol": "version=2"}, timeout=60
    )
    assert response.headers["content-type"] == "application/x-git-upload-pack-advertisement"
    assert response.headers["cache-control"] == "no-cache"
    assert b"version 2" not in response.content
    assert b"symref=HEAD:refs/heads/baseline" in response.content
    assert b"filter" not in response.content


def test_a_client_without_capabilities(upstream: Upstream) -> None:
    """One acknowledgement, and the pack as it is."""
    [first] = upstream.commit(upstream.root_sha)
    answer = ask(upstream, f"want {first}", "", f"have {'2' * 40}", f"have {upstream.root_sha}", "done")
    acknowledged = frame(f"ACK {upstream.root_sha}")
    assert answer.startswith(acknowledged + b"PACK")
    assert int.from_bytes(answer[len(acknowledged) + 8 :][:4], "big") == 3
    assert ask(upstream, f"want {first}", "", "done").startswith(frame("NAK") + b"PACK")
    assert ask(upstream, f"want {first}", "", f"have {'2' * 40}", "") == frame("NAK")


def test_negotiation_ends_when_little_is_missing(upstream: Upstream) -> None:
    near, *_, far = upstream.commit(upstream.root_sha, 70)
    root = upstream.root_sha
    ready = ask(upstream, f"want {near} multi_ack_detailed", "", f"have {root}", "")
    assert ready == frame(f"ACK {root} common") + frame(f"ACK {root} ready") + frame("NAK")
    at_once = ask(upstream, f"want {near} multi_ack_detailed no-done", "", f"have {root}", "")
    assert at_once.startswith(ready + frame(f"ACK {root}") + b"PACK")
    not_yet = ask(upstream, f"want {far} multi_ack_detailed no-done", "", f"have {root}", "")
    assert not_yet == frame(f"ACK {root} common") + frame("NAK")


def test_changes_of_large_files_leave_as_deltas(upstream: Upstream, tmp_path: Path) -> None:
    text = "".join(f"WEIGHT_{number} = {number * number % 977}\n" for number in range(20_000))
    [first] = upstream.commit(upstream.root_sha, text=text)
    [second] = upstream.commit(first, text=text)
    upstream.branch(baseline=second)
    words = f"want {second} multi_ack_detailed", "", f"have {first}", "done"
    whole = ask(upstream, *words)
    thin = ask(upstream, words[0] + " thin-pack", *words[1:])
    assert len(thin) < 1000 < 50_000 < len(whole)
    git = Git.init(tmp_path / "alone")
    git("fetch", "--depth", "1", upstream.url, second)
    assert git("show", "FETCH_HEAD:train.py") == f"{text}# experiment 2\n"


def test_what_is_not_understood_is_refused(upstream: Upstream) -> None:
    for line in (
        "want main",
        "want " + "g" * 40,
        "deepen 0",
        "deepen -1",
        "deepen 9999999999",
        "deepen-since 1700000000",
        "filter blob:none",
        "push me",
    ):
        assert ask(upstream, line, "")[4:8] == b"ERR ", line


def test_half_a_line_is_refused(upstream: Upstream) -> None:
    assert b"ERR the request ends in the middle of a line" in post(upstream, b"0032want ").content
    assert b"ERR not a git request" in post(upstream, b"GET / HTTP/1.1").content


def test_git_may_ask_whether_it_may_ask(upstream: Upstream) -> None:
    assert ask(upstream, "") == b""


def test_too_many_commits_are_refused(upstream: Upstream) -> None:
    lines = [f"have {number:040x}" for number in range(20_001)]
    assert b"ERR a request names at most 20000 commits" in ask(
        upstream, f"want {upstream.root_sha}", "", *lines, "done"
    )


def test_gzip(upstream: Upstream) -> None:
    body = frame(f"want {upstream.root_sha}") + b"0000" + frame("done")
    answer = post(upstream, gzip.compress(body), **{"Content-Encoding": "gzip"}).content
    assert answer.startswith(frame("NAK") + b"PACK")


def test_a_gzip_bomb_is_refused(upstream: Upstream) -> None:
    bomb = gzip.compress(b"0000" * MAX_REQUEST_BYTES)
    assert len(bomb) < 50_000
    response = post(upstream, bomb, **{"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["type"]) == (413, "/problems/body-too-large")
    response = post(upstream, b"no gzip", **{"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["type"]) == (400, "/problems/fetch-refused")


def test_other_services_are_not_here(upstream: Upstream) -> None:
    assert b"reading only" in httpx.get(f"{upstream.url}/info/refs?service=git-receive-pack", timeout=60).content
    assert httpx.post(f"{upstream.url}/git-receive-pack", content=b"0000", timeout=60).status_code in (404, 405)
    assert httpx.get(f"{upstream.url}/objects/info/packs", timeout=60).status_code == 404
    assert httpx.get(f"{upstream.address}/../../etc/passwd", timeout=60).status_code == 404


def test_a_client_that_goes_away(upstream: Upstream) -> None:
    """It takes a little of a large answer; the server goes on with others and holds no connection."""
    random = Random(1)
    for _ in range(8):
        upstream.commit(upstream.root_sha, text=random.randbytes(400_000).hex())
    with httpx.stream("GET", f"{upstream.address}.bundle", timeout=60) as response:
        chunks = response.iter_raw()
        assert next(chunks).startswith(b"# v2 git bundle")
        assert sum(len(next(chunks)) for _ in range(3)) < 3_000_000
        assert upstream.database.count_held() <= 1
    assert httpx.get(f"{upstream.url}/info/refs", timeout=60).status_code == 200
    deadline = time.monotonic() + 60
    while upstream.database.count_held():
        assert time.monotonic() < deadline
        time.sleep(0.02)
