"""How long the search of findings takes among many of them, on both databases, through the whole application.

    python -m tests.bench.bench_findings --findings 100000 --engines sqlite postgresql

Questions are the real ones of tests/data/relevance, alone and together with words of what is stored, with and without
filters; and sentences and diffs that ask whether something was tried. Lists are asked for with every filter in every
order, both ways, and with two filters; searches with every filter. How often these are answered rightly is told of
the labelled questions of tests/data/tried: of those that were for tuning, and of those that were held out.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations, count, cycle, repeat
from pathlib import Path
from random import Random
from typing import Any

import httpx

import coordinator.__main__  # noqa: F401 - numpy has one thread, as in a coordinator's process
from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.experiments.run_lists import ORDERS
from coordinator.projects.service import create_project
from coordinator.records.progress import follow_runs
from coordinator.settings import CoordinatorSettings
from shared.findings import TriedVerdict
from shared.protocol import API_PREFIX
from shared.records import ExperimentSort
from tests.bench.findings_store import KNOBS, PARTS, FindingsStore, read_sentences
from tests.bench.report import append_table, format_table
from tests.coordinator.findings.relevance import read_queries
from tests.coordinator.findings.tried import ALL, QUESTION_PARTS, SESSIONS, LabelledQuestion, measure, write_session
from tests.support.databases import analyze, run_postgres
from tests.support.in_process import open_client
from tests.support.messages import HARDWARE
from tests.support.seeds import write_seed

HEADINGS = (
    "engine",
    "findings",
    "question",
    "questions",
    "p50, ms",
    "p95, ms",
    "p99, ms",
    "CPU of the coordinator, ms",
)
QUESTIONS, LISTS = 200, 40
"""Number of questions of a kind, and of lists with a filter or in an order."""

GOALS = {"sqlite": 150, "postgresql": 300}
"""Milliseconds within which 95 of 100 searches and lists are answered."""

EACH: dict[str, tuple[Any, ...]] = {
    "verdict": ("improved", "worse", "invalid"), "standing": ("provisional", "verified"), "kind": ("improve", "adopt"),
    "axis": KNOBS, "branch": ("baseline", "optimizers", "none"), "worker": ("w1", "grace/gpu-cellar"),
    "volunteer": ("ada", "grace"), "failure": ("crashed", "worse", "slower", "timeout"), "failed": (True, False),
    "has_code": (True, False), "text": ("decay", "zebra"), "tag": ("none",), "since": ("2020-01-01T00:00:00Z",),
    "until": ("2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"), "effect_above": (0.0, 0.03), "effect_below": (0, -0.02),
    "metric_above": (3.3, 3.34), "metric_below": (3.3, 3.27), "hardware_class": (HARDWARE.hardware_class, "none"),
    "with_retracted": (True,),
}  # fmt: skip
"""Each filter of lists and searches of findings: values that fit many, few and none."""

SORTS = {"findings": list(ExperimentSort), "experiments": list(ExperimentSort), "runs": list(ORDERS)}
FILTERS: tuple[dict[str, Any], ...] = (
    {"verdict": "improved"}, {"verdict": "worse", "effect_above": 0.01}, {"axis": "WEIGHT_DECAY"},
    {"volunteer": "ada", "effect_below": -0.005}, {"standing": "provisional", "branch": "main"},
)  # fmt: skip


class Asker:
    """Asks over HTTP, and keeps the time."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._random = Random(9)
        self._sentences = read_sentences()
        self._real = [query.words for query in read_queries()]

    def search(self) -> httpx.Response:
        return self._search({})

    def search_with_filters(self) -> httpx.Response:
        return self._search(self._random.choice(FILTERS))

    def ask_a_sentence(self) -> httpx.Response:
        return self._ask(self._random.choice(self._sentences))

    def ask_a_diff(self) -> httpx.Response:
        name = self._random.choice(KNOBS) + self._random.choice(PARTS)
        values = [f"{self._random.lognormvariate(-2, 2):.2g}" for _ in range(2)]
        return self._ask(f"--- a/train.py\n+++ b/train.py\n@@ -7 +7 @@\n-{name} = {values[0]}\n+{name} = {values[1]}\n")

    def _search(self, filters: dict[str, Any]) -> httpx.Response:
        words = self._random.choice(self._real)
        if self._random.random() < 0.5:
            words += " " + " ".join(self._random.choice(self._sentences).split()[:6])
        return self._http.get(f"{API_PREFIX}/findings/search", params={"project": "tiny", "q": words} | filters)

    def _ask(self, question: str) -> httpx.Response:
        return self._http.post(f"{API_PREFIX}/findings/tried", json={"project": "tiny", "text": question})


def time_questions(ask: Callable[[], httpx.Response], count: int = QUESTIONS) -> tuple[list[float], float]:
    """Milliseconds that each question took, sorted, and the mean CPU time of this process for one.

    A few are asked before, so that everything is loaded.
    """
    took, cpu_began = [], 0.0
    for number in range(-min(10, count), count):
        if number == 0:
            cpu_began = time.process_time()
        began = time.perf_counter()
        response = ask()
        if number >= 0:
            took.append((time.perf_counter() - began) * 1000)
        assert response.status_code == 200, response.text
    return sorted(took), (time.process_time() - cpu_began) * 1000 / count


def name_questions(http: httpx.Client, words: Sequence[str]) -> Iterator[tuple[str, Callable[[], httpx.Response]]]:
    """Lists in each order, with each filter in all orders, and with two filters; searches with each filter."""
    random = Random(11)

    def get(path: str, asked: Iterator[dict[str, Any]]) -> Callable[[], httpx.Response]:
        return lambda: http.get(f"{API_PREFIX}/{path}", params={"project": "tiny"} | next(asked))

    def draw(*names: str) -> dict[str, Any]:
        return {name: random.choice(EACH[name]) for name in names}

    for path, sorts in SORTS.items():
        known = [name for name in EACH if path == "findings" or name not in ("tag", "with_retracted")]
        orders = [{"sort": sort, "ascending": ascending} for sort in sorts for ascending in (False, True)]
        for order in orders:
            way = "up" if order["ascending"] else "down"
            yield f"{path} by {order['sort']}, {way}", get(path, repeat(order))
        for name in known:
            yield f"{path}, {name}", get(path, (draw(name) | order for order in cycle(orders)))
        pairs = cycle(combinations(known, 2))
        yield f"{path}, two filters", get(path, (draw(*next(pairs)) | order for order in cycle(orders)))
    for name in EACH:
        yield f"search, {name}", get("findings/search", (draw(name) | {"q": random.choice(words)} for _ in count()))


def run_lists(engine: str, findings: int, http: httpx.Client, questions: int) -> Iterator[tuple[str, ...]]:
    """A row for each filter and order, the slowest first."""
    rows = []
    for name, ask in name_questions(http, [query.words for query in read_queries()]):
        took, cpu = time_questions(ask, questions)
        rows.append((name, [took[len(took) * share // 100] for share in (50, 95, 99)], cpu))
    for name, shares, cpu in sorted(rows, key=lambda row: -row[1][1]):
        yield engine, f"{findings:,}", name, str(questions), *(f"{figure:.1f}" for figure in (*shares, cpu))


def wait_for_meaning(http: httpx.Client) -> None:
    """Until the application has made its index of meanings, which it does beside its requests."""
    asked = {"project": "tiny", "q": "weight decay", "limit": "100"}
    while True:
        response = http.get(f"{API_PREFIX}/findings/search", params=asked)
        assert response.status_code == 200, response.text
        if any(hit["meaning_rank"] for hit in response.json()["items"]):
            return
        time.sleep(0.5)


@contextmanager
def open_filled(folder: Path, engine: str, findings: int) -> Iterator[httpx.Client]:
    """A client of an application on a new database with so many findings."""
    with ExitStack() as stack:
        url = f"sqlite:///{folder}/bench.db"
        if engine == "postgresql":
            url = stack.enter_context(run_postgres()).create()
        database = Database(url)
        database.migrate()
        began = time.monotonic()
        FindingsStore(database, folder).fill(findings)
        follow_runs(database)
        sys.stderr.write(f"{engine}: {findings:,} findings made in {time.monotonic() - began:.0f} s\n")
        analyze(database)
        database.close()
        settings = CoordinatorSettings(database_url=url, meaning_check_seconds=1e6, epoch_check_seconds=1e6)
        http = stack.enter_context(open_client(create_app(settings)))
        wait_for_meaning(http)
        sys.stderr.write(f"{engine}: the index of meanings is there after {time.monotonic() - began:.0f} s\n")
        yield http


def run_search(engine: str, findings: int) -> Iterator[tuple[str, ...]]:
    """The table's rows for one engine."""
    with tempfile.TemporaryDirectory() as folder, open_filled(Path(folder), engine, findings) as http:
        asker = Asker(http)
        asks = {
            "search": asker.search, "search with filters": asker.search_with_filters,
            "tried? a sentence": asker.ask_a_sentence, "tried? a diff": asker.ask_a_diff,
        }  # fmt: skip
        for name, ask in asks.items():
            took, cpu = time_questions(ask)
            figures = (*(took[len(took) * share // 100] for share in (50, 95, 99)), cpu)
            yield engine, f"{findings:,}", name, str(len(took)), *(f"{figure:.1f}" for figure in figures)
        yield from run_lists(engine, findings, http, LISTS)


ACCURACY_HEADINGS = ("questions", "number", "recall of tried", "false tried", "answered rightly", "at first sight")


def measure_answers() -> Iterator[tuple[str, ...]]:
    """A row for each part of the labelled questions, asked over HTTP."""
    with tempfile.TemporaryDirectory() as name:
        database = Database(url := f"sqlite:///{name}/bench.db")
        database.migrate()
        for letter in SESSIONS:
            with database.write() as session:
                write_session(session, create_project(session, write_seed(Path(name, letter), letter))[0], letter)
        database.close()
        with open_client(create_app(CoordinatorSettings(database_url=url))) as http:

            def ask(question: LabelledQuestion) -> TriedVerdict:
                asked = {"project": question.session, "text": question.text}
                return TriedVerdict(http.post(f"{API_PREFIX}/findings/tried", json=asked).json()["verdict"])

            for part in (*QUESTION_PARTS, ALL):
                found = measure(part, ask)
                shares = (found.recall, found.false_tried, found.exact)
                goal = QUESTION_PARTS.get(part)
                at_first = " and ".join(f"{share:.3f}" for share in (goal and goal.at_first) or ())
                yield part, str(found.questions), *(f"{share:.3f}" for share in shares), at_first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=100_000)
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--append", type=Path, help="add the table to this file")
    options = parser.parse_args()
    logging.disable(logging.INFO)  # a library sets the level of every logger when it is imported
    sys.stdout.write(format_table(ACCURACY_HEADINGS, list(measure_answers())) + "\n\n")
    rows = []
    for engine in options.engines:
        for row in run_search(engine, options.findings):
            sys.stderr.write(" | ".join(row) + "\n")
            rows.append(row)
    sys.stdout.write(format_table(HEADINGS, rows) + "\n")
    for engine in options.engines:
        missed = [row[2] for row in rows if row[0] == engine and float(row[5]) > GOALS[engine]]
        said = f"p95 above {GOALS[engine]} ms: {', '.join(missed)}" if missed else f"all p95 within {GOALS[engine]} ms"
        sys.stdout.write(f"{engine}: {said}\n")
    if options.append:
        append_table(options.append, "tests.bench.bench_findings", HEADINGS, rows)


if __name__ == "__main__":
    main()
