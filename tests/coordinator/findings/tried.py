"""Questions whether something was tried, with labels from before answers were changed, and how they are answered."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.findings.attempts import Attempt, count_known, judge
from coordinator.findings.prior_work import parse_question
from coordinator.findings.steps import read_change
from coordinator.models import Project
from shared.experiments import Proposal
from shared.findings import FindingDraft, Likeness, TriedVerdict
from tests.support.swarm_data import History

DATA = Path(__file__).parents[2] / "data"
SESSIONS = {
    "a": DATA / "relevance" / "session-a.tsv",
    "b": DATA / "relevance" / "session-b.tsv",
    **{
        letter: DATA / "tried" / f"session-{letter}.tsv"
        for letter in (*"cdefghijklmnopqrstuvwxyz", "aa", "ab", "ac", "ad", "ae")
    },
}


SUBJECTS = {
    "language models": (*"abchlmno", "ab", "ac"), "images": "d", "serving": "e", "tables": "f",
    "reinforcement learning": "g", "speech": "i", "trading": "j", "diffusion": "k", "retrieval": "p",
    "audio codecs": "q", "databases": "r",
}  # fmt: skip
"""The sessions that weights are fit to, by what they are about. To others nothing was fit."""


class Goal(NamedTuple):
    """The least recall and the largest share of false "tried" that a test asks of a part of the questions; `at_first`
    are those two when the part's answers were seen for the first time, where they were written down."""

    recall: float
    false_tried: float = 0.05
    at_first: tuple[float, float] | None = None


QUESTION_PARTS = {
    "tuning": Goal(0.95), "held": Goal(0.95), "second": Goal(0.95),
    "second held": Goal(0.95), "third": Goal(0.95),
    "fourth": Goal(0.89), "fifth": Goal(0.9), "sixth": Goal(0.92, 0.12), "near misses": Goal(0, 0.15),
    "seventh": Goal(0.9, at_first=(0.68, 0.0)), "eighth": Goal(0.9, 0.08, at_first=(0.808, 0.0)),
    "ninth": Goal(0.83, at_first=(0.796, 0.069)), "tenth": Goal(0.92, at_first=(0.925, 0.0)),
    "eleventh": Goal(0.92, at_first=(0.76, 0.0)), "twelfth": Goal(0.95, 0.09, at_first=(0.732, 0.043)),
    "thirteenth": Goal(0.95, at_first=(0.791, 0.038)), "fourteenth": Goal(0.95, at_first=(0.902, 0.0)),
    "fifteenth": Goal(0.95, at_first=(1.0, 0.0)), "sixteenth": Goal(0.75, at_first=(0.792, 0.077)),
    "seventeenth": Goal(0.95, at_first=(0.833, 0.104)), "eighteenth": Goal(0.79, 0.07, at_first=(0.75, 0.217)),
    "nineteenth": Goal(0.79, 0.07, at_first=(0.75, 0.111)),
    "twentieth": Goal(0.76, 0.09, at_first=(0.654, 0.163)), "twenty-first": Goal(0.65, 0.04, at_first=(0.563, 0.113)),
    "twenty-second": Goal(0.59, 0.02, at_first=(0.5, 0.096)), "twenty-third": Goal(0.82, 0.18, (0.824, 0.176)),
    "twenty-fourth": Goal(0.88, 0.06, (0.882, 0.118)), "twenty-fifth": Goal(0.76, 0.03, (0.733, 0.014)),
    "twenty-sixth": Goal(0.74, 0.02, (0.698, 0.014)), "twenty-seventh": Goal(0.95, 0.02, (0.717, 0.025)),
    "twenty-eighth": Goal(0.81, 0.02, (0.694, 0.024)), "twenty-ninth": Goal(0.82, 0.02, (0.667, 0.024)),
    "thirtieth": Goal(0.86, 0.03, (0.644, 0.025)),
}  # fmt: skip
"""Parts of the questions. Later ones were written later; the near misses are all of things that nobody tried."""

ALL = "all"


class LabelledQuestion(NamedTuple):
    """A question, the session that it is about, and the right answer. Its `part` is one of QUESTION_PARTS."""

    part: str
    session: str
    text: str
    verdict: TriedVerdict


class Accuracy(NamedTuple):
    """Shares of a part's questions: `recall` of those that were tried are answered so, and `false_tried` of others."""

    questions: int
    recall: float
    false_tried: float
    exact: float


def read_questions() -> list[LabelledQuestion]:
    rows = [line.split("\t") for line in (DATA / "tried" / "questions.tsv").read_text().splitlines()[1:]]
    return [
        LabelledQuestion(part, of, text.replace(r"\n", "\n"), TriedVerdict(word.replace(" ", "_")))
        for part, of, text, word, _ in rows
    ]


def write_session(session: Session, project: Project, letter: str) -> None:
    """An experiment with a finding for each row of a session, as an import makes them."""
    history = History(session, project)
    worker = history.add_worker()
    for line in SESSIONS[letter].read_text().splitlines()[1:]:
        title = line.split("\t")[4]
        change = read_change(title)
        proposal = Proposal(
            title=title, hypothesis="", axis=change.axis, direction=change.direction, value=change.value
        )
        history.add_experiment(worker, project.root_sha, 3.2, proposal, FindingDraft(claim=title, agent="a session"))


@cache
def read_attempts(letter: str) -> list[Attempt]:
    """A session's experiments as they are compared with a question."""
    titles = [line.split("\t")[4] for line in SESSIONS[letter].read_text().splitlines()[1:]]
    return [Attempt(title[:200], *read_change(title)[:3]) for title in titles]


@cache
def judge_all(question: LabelledQuestion) -> TriedVerdict:
    """The answer where every experiment is compared, as those of a session without a database are."""
    asked = parse_question(question.text).read()
    attempts = read_attempts(question.session)
    known = count_known(attempts)
    found = {judge(asked, attempt, known) for attempt in attempts} - {None}
    if Likeness.SAME_STEP in found:
        return TriedVerdict.TRIED
    return TriedVerdict.NEAR if found else TriedVerdict.NOT_TRIED


def measure(part: str, ask: Callable[[LabelledQuestion], TriedVerdict]) -> Accuracy:
    """How well a part's questions are answered, or ALL of them."""
    told = [(one.verdict, ask(one)) for one in read_questions() if part in (one.part, ALL)]
    tried = [got for want, got in told if want is TriedVerdict.TRIED]
    others = [got for want, got in told if want is not TriedVerdict.TRIED]
    return Accuracy(
        len(told), tried.count(TriedVerdict.TRIED) / len(tried) if tried else 1.0,
        others.count(TriedVerdict.TRIED) / len(others),
        sum(want is got for want, got in told) / len(told),
    )  # fmt: skip
