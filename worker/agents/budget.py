"""Budget of a language model: tokens and money, per experiment and per day (UTC), counted on disk.

`usage-<day>.jsonl` has a line for each paid answer, which says how that was read. The volunteer's workers on one
machine share the folder and the daily budget. Each line is appended in one write, so that workers do not interleave.
"""

import json
from pathlib import Path

from pydantic import ValidationError

from shared.protocol import Message, Timestamp, now
from shared.runs import ModelUsage

PER_MILLION = 1_000_000


class BudgetSpent(Exception):
    """Another request could exceed a limit of the volunteer's; the message names it."""


class _Line(Message):
    at: Timestamp
    model: str
    usage: ModelUsage
    answer: str = ""
    address: str = ""


class Allowance(Message):
    """Limits (None: unlimited), and prices per million tokens in the volunteer's currency (None: unknown)."""

    tokens_per_experiment: int | None = None
    tokens_per_day: int | None = None
    cost_per_experiment: float | None = None
    cost_per_day: float | None = None
    input_price: float | None = None
    output_price: float | None = None

    def price(self, usage: ModelUsage) -> ModelUsage:
        """The usage with its cost, if prices are known."""
        if self.input_price is None or self.output_price is None:
            return usage
        cost = (usage.input_tokens * self.input_price + usage.output_tokens * self.output_price) / PER_MILLION
        return usage.model_copy(update={"cost": cost})


class UsageLog:
    """Counts usage on disk. Raises OSError if the folder cannot be used: without a count there is no request."""

    def __init__(self, folder: Path, model: str, allowance: Allowance, address: str = "") -> None:
        self._folder, self._model, self._allowance, self._address = folder, model, allowance, address
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def has_answered(self) -> bool:
        """Whether a model at this address has ever answered on this machine."""
        return any(json.dumps(self._address) in path.read_text() for path in self._folder.glob("usage-*.jsonl"))

    def check(self, request: ModelUsage, experiment: ModelUsage) -> None:
        """Raises BudgetSpent if the largest cost of a request could exceed the day's or the experiment's limit."""
        allowance, day = self._allowance, self.today()
        for spent, tokens, cost, span in (
            (experiment, allowance.tokens_per_experiment, allowance.cost_per_experiment, "this experiment's"),
            (day, allowance.tokens_per_day, allowance.cost_per_day, "today's (UTC)"),
        ):
            after = spent.plus(request)
            if tokens is not None and after.tokens > tokens:
                raise BudgetSpent(f"{span} {tokens} tokens do not suffice: {spent.tokens} are used")
            price = allowance.price(after).cost
            if cost is not None and price is not None and price > cost:
                paid = allowance.price(spent).cost or 0.0
                raise BudgetSpent(f"{span} budget of {cost:g} does not suffice: {paid:.4f} is spent")

    def record(self, usage: ModelUsage, answer: str = "") -> ModelUsage:
        """Write an answer's usage, and how it was read, to disk before it is used; returns the usage with its cost."""
        usage = self._allowance.price(usage)
        if not usage.requests:  # no answer
            return usage
        line = _Line(at=now(), model=self._model, usage=usage, answer=answer, address=self._address)
        path = self._path()
        path.touch(mode=0o600)
        with path.open("ab", buffering=0) as file:
            file.write(line.model_dump_json().encode() + b"\n")
        return usage

    def today(self) -> ModelUsage:
        """Usage of all workers on this day."""
        total, path = ModelUsage(), self._path()
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                total = total.plus(_Line.model_validate_json(text).usage)
            except ValidationError:  # cut off by a full disk
                continue
        return total

    def _path(self) -> Path:
        return self._folder / f"usage-{now():%Y-%m-%d}.jsonl"
