"""A client that goes through whole cycles and computes as little as it can: the coordinator is what is measured.

It keeps one connection, sends JSON that is mostly made beforehand, and looks at no more of an answer than the next
request needs. An agent's own work (reading code, choosing words) belongs to volunteers' machines and is prepared, too.
"""

import contextlib
import http.client
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from shared.commits import CommitWords, build_blob, build_commit, build_trees
from shared.leases import Phase
from shared.protocol import API_PREFIX, now
from shared.runs import CurvePoint
from tests.bench.synthetic import list_sentences
from tests.support.messages import AUTHOR, claim_request, make_proposal, make_run
from worker.agents.search_space import read_settings

Json = dict[str, Any]

REQUESTS = ("claim", "proposal", "heartbeat", "result")
MAX_DRAFTS = 3
RUN_TIME = timedelta(seconds=29)
MAX_WORDS = 1_000  # characters of a hypothesis
EDITED_LINES = (1, 1, 2, 5)
PROGRAM = "train.py"
CURVE = [CurvePoint(step=step, seconds=step / 10, loss=5.5 - step / 100) for step in range(200)]
_NUMBER = re.compile(r" = ([0-9][0-9.]*)\b")
_CREATED, _OK = 201, 200


class CycleError(Exception):
    """A request was not answered as it should be."""


@dataclass
class Tally:
    """One client's counts: milliseconds by request, and whole cycles."""

    took: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in REQUESTS})
    cycles: int = 0
    failed: int = 0

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except (CycleError, OSError, http.client.HTTPException) as error:
            self.failed += 1
            print(f"\n{name}: {error}", file=sys.stderr)
            raise
        self.took[name].append((time.perf_counter() - began) * 1000)


@dataclass(frozen=True)
class Draft:
    """A change of the program: its text, and what its proposal says."""

    text: str
    proposal: Json


class Connection:
    """One kept connection to the coordinator."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        assert address.hostname
        self._http = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: Json, expected: int = _OK, **headers: str) -> Json:
        """The answer's document. Raises CycleError for another status than expected."""
        try:
            self._http.request("POST", API_PREFIX + path, json.dumps(body).encode(), self._headers | headers)
            answer = self._http.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if answer.status != expected:
            raise CycleError(f"{answer.status} {content[:500]!r}")
        document: Json = json.loads(content)
        return document

    def read_protocol(self) -> int:
        """The protocol that the coordinator speaks; it may be an older one."""
        self._http.request("GET", f"{API_PREFIX}/versions", headers=self._headers)
        protocol = int(json.loads(self._http.getresponse().read())["protocol"])
        self.close()  # other clients may come first for so long that the server would
        return protocol

    def become(self, token: str) -> None:
        """Send another token from now on."""
        self._headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Let go of the connection; the next request makes another."""
        self._http.close()


def makes_experiment(lease: Json) -> bool:
    """Whether a job is to try a change; others measure what exists."""
    return lease["kind"] not in ("control", "replicate", "confirm")


class Drafter:
    """Drafts changes of a program as agents do: other numbers in code that still compiles."""

    def __init__(self, root_text: str) -> None:
        self._random = Random()  # two phases of one benchmark must not propose the same
        self._sentences = list_sentences()
        self._settings = read_settings({PROGRAM: root_text})
        self._proposal = make_proposal().model_dump(mode="json")

    def draft(self, text: str) -> Draft:
        """A change; the constants that it moves are the proposal's axis, else it is an idea in words."""
        places = list(_NUMBER.finditer(text))
        chosen = sorted(self._random.sample(places, self._random.choice(EDITED_LINES)), key=lambda place: place.start())
        parts, at = [], 0
        moved: dict[str, float] = {}
        for place in chosen:
            value = float(f"{self._random.uniform(1e-4, 1):.6g}")
            parts += [text[at : place.start(1)], repr(value)]
            at = place.end(1)
            name = text[text.rfind("\n", 0, place.start()) + 1 : place.start()]
            if name in self._settings:
                moved[name] = value
        return Draft("".join([*parts, text[at:]]), self._describe(moved))

    def _describe(self, moved: Mapping[str, float]) -> Json:
        if not moved:
            title, hypothesis = self._random.sample(self._sentences, 2)
            words = {"title": title[:120], "axis": title[:60], "hypothesis": hypothesis[:MAX_WORDS], "value": ""}
            return {**self._proposal, **words, "settings": self._settings}
        axis, value = " and ".join(moved), ", ".join(map(str, moved.values()))
        words = {"title": f"{axis} → {value}"[:120], "axis": axis, "value": value}
        return {**self._proposal, **words, "settings": {**self._settings, **moved}}


class Client:
    """One worker that goes through cycles until a moment comes. `root_files` are all files of the project's root."""

    def __init__(self, url: str, token: str, name: str, root_files: Mapping[str, str]) -> None:
        self._connection = Connection(url, token)
        # Older coordinators refuse fields that are new.
        claim = claim_request(name).model_dump(mode="json", exclude_defaults=True)
        self._claim = claim | {"protocol": self._connection.read_protocol()}
        self._drafter = Drafter(root_files[PROGRAM])
        self._blobs = {path: build_blob(text).sha for path, text in root_files.items()}
        self._run = make_run("0" * 40).model_dump(mode="json", exclude_defaults=True, exclude={"limits"})
        self._curve = [point.model_dump(mode="json") for point in CURVE]
        self._random = Random()

    def calibrate(self) -> None:
        """The first job of every worker, which is not measured."""
        lease = self._connection.post("/leases", self._claim)["lease"]
        if not makes_experiment(lease):
            self._deliver(lease, {"run": self._make_run(lease["base"]["sha"], 3.3)})
        self.rest()

    def rest(self) -> None:
        """Let go of the connection while others work; the server would."""
        self._connection.close()

    def work(self, until: float, tally: Tally) -> None:
        """Go through cycles until that moment, and until one is whole or fails however slow the machine is."""
        while True:
            with contextlib.suppress(CycleError, OSError, http.client.HTTPException):
                self._cycle(tally)
            if time.monotonic() >= until and (tally.cycles or tally.failed):
                return

    def become(self, token: str, name: str) -> None:
        """Speak for another volunteer's worker from now on."""
        self._connection.become(token)
        self._claim["worker"] = name

    def _cycle(self, tally: Tally) -> None:
        lease = self.claim(tally)
        if lease is None:
            return
        drafted = self.propose(lease, tally) if makes_experiment(lease) else None
        for step in (1, 2, 3) if drafted else ():
            self.beat(lease, step, step / 4, tally)
        self.deliver(lease, drafted, tally)

    def claim(self, tally: Tally) -> Json | None:
        """The lease of a job; None if there is none, which counts as a failure."""
        with tally.time("claim"):
            lease: Json | None = self._connection.post("/leases", self._claim)["lease"]
        tally.failed += lease is None
        return lease

    def beat(self, lease: Json, step: int, share: float, tally: Tally) -> None:
        beat = {"token": lease["token"], "phase": Phase.TRAINING, "step": step, "share": share}
        with tally.time("heartbeat"):
            self._connection.post(f"/leases/{lease['id']}/heartbeat", beat)

    def deliver(self, lease: Json, drafted: Draft | None, tally: Tally, sent: set[str] | None = None) -> Json:
        """Deliver the job's result, and return the answer. `sent` gets the run's id before."""
        sha = lease["base"]["sha"]
        upload = self._make_result(sha, drafted) if drafted else {"run": self._make_run(sha, 3.3)}
        if sent is not None:
            sent.add(upload["run"]["id"])
        with tally.time("result"):
            reply = self._deliver(lease, upload)
        tally.cycles += drafted is not None
        return reply

    def propose(self, lease: Json, tally: Tally) -> Draft:
        """A change that is accepted as new. An agent insists where much like it was tried, else it drafts again."""
        for _ in range(MAX_DRAFTS):
            drafted = self._drafter.draft(lease["base"]["files"][PROGRAM])
            reply = self._submit(lease, drafted, {}, tally)
            if reply["similar"]:
                reply = self._submit(lease, drafted, {"insists": "On this parent it may do something else."}, tally)
            if reply["accepted"]:
                return drafted
        raise CycleError(reply["reason"])

    def _submit(self, lease: Json, drafted: Draft, more: Json, tally: Tally) -> Json:
        proposal = {**drafted.proposal, **more}
        submission = {"token": lease["token"], "proposal": proposal, "files": {PROGRAM: drafted.text}}
        with tally.time("proposal"):
            return self._connection.post(f"/leases/{lease['id']}/proposal", submission)

    def _deliver(self, lease: Json, upload: Json) -> Json:
        upload["run"]["seed"] = lease["seed"]
        headers = {"Idempotency-Key": upload["run"]["id"]}
        reply = self._connection.post(f"/leases/{lease['id']}/result", upload, _CREATED, **headers)
        if reply["posterior"] is None:
            raise CycleError(f"the run is no measurement: see {reply['url']}")
        return reply

    def _make_run(self, sha: str, metric: float, **more: Any) -> Json:
        times = {"started_at": (now() - RUN_TIME).isoformat(), "finished_at": now().isoformat()}
        return {**self._run, **times, "id": str(uuid4()), "commit_sha": sha, "metric": metric, **more}

    def _make_result(self, parent_sha: str, drafted: Draft) -> Json:
        files = {PROGRAM: drafted.text}
        words = CommitWords(AUTHOR, 1_790_000_000, "Another number\n")
        tree_sha, _ = build_trees({**self._blobs, PROGRAM: build_blob(drafted.text).sha})
        sha = build_commit(tree_sha, parent_sha, words).sha
        commit = {
            "sha": sha, "parent_sha": parent_sha, "files": files, "author": words.author,
            "authored_at": words.authored_at, "message": words.message,
        }  # fmt: skip
        run = self._make_run(sha, 3.25 + self._random.gauss(0, 0.02), curve=self._curve)
        finding = {"claim": "Another number helps, on one run.", "agent": "scripted"}
        return {"run": run, "commit": commit, "proposal": drafted.proposal, "finding": finding}
