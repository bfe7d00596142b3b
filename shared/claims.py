"""Numbers in a finding's words: stored as placeholders, written out from the evidence at the moment of reading.

`{result}` is the whole result, `{effect}` child minus parent, `{fall}` and `{rise}` the size of an effect whose
direction the words name, `{metric}` and `{parent}` the two metrics, `{runs}` the number of runs, and `{replication}`
what that number means; some end in `_percent`.
"""

import re
from collections.abc import Callable, Mapping

from shared.experiments import Posterior, Standing, Verdict
from shared.formatting import MINUS, count_noun, decimals_for, format_effect, format_measure

RESULT, REPLICATION = "{result}", "{replication}"
WORDS = ("claim", "mechanism", "caveats", "refuted_by", "follow_ups")
"""The fields of a finding that its author writes, and that may hold placeholders."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_NUMBER = re.compile(r"[-+\N{MINUS SIGN}]?\d*\.?\d+|[:.]$")
_ONE = r"(?:one|a single|single|1) (?:run|seed|measurement)"
_ONE_RUN = re.compile(
    r"(?:(?<=\()|(?<=\bin )|(?<=\bon )|(?<=\bfrom )|(?<=\bafter )|(?<=\bonly )|(?<=\bjust )|(?<=[,.;:] )|^)"
    rf"{_ONE}(?:,? (?:with|on|and) {_ONE}| (?:with|on) (?:one|a single) (?:GPU|machine|worker|card))*"
    r"(?=[),.;:]|$| (?:it|this|that|alone|only|so far)\b)|\b(?:one|single)(?=-run\b)|"
    r"(?:(?<=\(n=)|(?<=\(n = ))1(?=\))",
    re.IGNORECASE,
)
"""A result's number of runs, and not what a run is or takes ("the noise of one run", "one run takes 5 minutes")."""


def write_out(text: str, posterior: Posterior | None, outcome: str = "") -> str:
    """A finding's words with the numbers of its experiment as of now; `outcome` is that of its first run."""
    if posterior is not None and posterior.runs > 1:
        many = count_noun(posterior.runs, "run")
        text = _ONE_RUN.sub(lambda found: many if " " in found[0] else many.split()[0], text)
    text = _PLACEHOLDER.sub(lambda found: _write(found[0], found[1], posterior, outcome), text)
    return text.strip()


def drop_numbers(text: str) -> str:
    """The words without what is measured, for indexes that do not follow the evidence."""
    return _PLACEHOLDER.sub(lambda found: "" if found[1] in _WRITERS else found[0], text).strip()


def fits(text: str, shown: str) -> bool:
    """Whether words that are shown are those of a stored text, whatever its results are."""
    text = _PLACEHOLDER.sub(lambda found: "\0" if found[1] in _WRITERS else found[0], text)
    parts = (re.escape(part.strip()) for part in _ONE_RUN.sub("\0", text).split("\0"))
    return re.fullmatch(r"\s*.{0,120}\s*".join(parts), shown, re.DOTALL) is not None


def is_bare(claim: str, title: str) -> bool:
    """Whether a stored claim says no more than what was tried, and the result."""
    words, said = ("".join(_NUMBER.sub("", drop_numbers(text)).split()) for text in (claim, title))
    return words.startswith(said) and len(drop_numbers(claim).split()) - len(title.split()) <= 2  # the metric's name


def _write(whole: str, name: str, posterior: Posterior | None, outcome: str) -> str:
    if name not in _WRITERS:
        return whole
    if posterior is None:
        return "" if name == "replication" else f"not measured ({outcome})".replace("_", " ").replace(" ()", "")
    return _WRITERS[name](posterior)


def _say_runs(posterior: Posterior) -> str:
    return "one run" if posterior.runs == 1 else count_noun(posterior.runs, "run")


def _say_result(posterior: Posterior) -> str:
    mean, sd, runs = posterior.effect_mean, posterior.effect_sd, _say_runs(posterior)
    if posterior.standing == Standing.REJECTED:
        return "without a result: a maintainer rejected it"
    if mean is None or sd is None:
        return f"{format_measure(posterior.metric_mean, posterior.metric_sd)} ({runs}, nothing to compare it with)"
    if posterior.standing == Standing.HELD:
        return f"{format_effect(mean, sd)} ({runs}, held for a maintainer's decision)"
    provisional = ", provisional" if posterior.runs == 1 else ""
    if posterior.verdict in (Verdict.IMPROVED, Verdict.WORSE):
        side = "better" if posterior.verdict == Verdict.IMPROVED else "worse"
        return f"{side} by {format_measure(abs(mean), sd)} ({runs}{provisional})"
    said = "no change that matters" if posterior.verdict == Verdict.NO_CHANGE else "unresolved"
    return f"{said}, {format_effect(mean, sd)} ({runs})"


def _say_size(sign: float) -> Callable[[Posterior], str]:
    def say(posterior: Posterior) -> str:
        mean, sd = posterior.effect_mean, posterior.effect_sd
        return "an unknown amount" if mean is None or sd is None else format_measure(sign * mean, sd)

    return say


def _say_share(sign: float) -> Callable[[Posterior], str]:
    def say(posterior: Posterior) -> str:
        mean = posterior.effect_mean
        if mean is None or posterior.metric_mean == mean:
            return "an unknown share"
        return f"{100 * sign * mean / abs(posterior.metric_mean - mean):.2g} %".replace("-", MINUS)

    return say


def _say_effect(posterior: Posterior) -> str:
    return format_effect(posterior.effect_mean, posterior.effect_sd, unknown="an unknown effect")


def _say_parent(posterior: Posterior, scale: float = 1.0) -> str:
    if posterior.effect_mean is None:
        return "an unknown value"
    parent = scale * (posterior.metric_mean - posterior.effect_mean)
    return f"{parent:.{decimals_for(scale * posterior.metric_sd)}f}".replace("-", MINUS)


def _say_replication(posterior: Posterior) -> str:
    if posterior.runs == 1:
        return "One run with one seed on one worker; until it is replicated, the difference may be noise."
    if not posterior.checkers:
        return f"{count_noun(posterior.runs, 'run')}, all by its author's volunteer."
    return f"{count_noun(posterior.runs, 'run')}; {count_noun(posterior.checkers, 'other volunteer')} measured it, too."


_WRITERS: Mapping[str, Callable[[Posterior], str]] = {
    "result": _say_result,
    "effect": _say_effect,
    "fall": _say_size(-1.0),
    "rise": _say_size(1.0),
    "fall_percent": _say_share(-1.0),
    "rise_percent": _say_share(1.0),
    "metric": lambda posterior: format_measure(posterior.metric_mean, posterior.metric_sd),
    "metric_percent": lambda posterior: f"{format_measure(100 * posterior.metric_mean, 100 * posterior.metric_sd)} %",
    "parent_percent": lambda posterior: _say_parent(posterior, 100.0) + " %",
    "parent": _say_parent,
    "runs": _say_runs,
    "replication": _say_replication,
}
