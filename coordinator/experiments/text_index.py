"""The index of findings' words: which findings hold a question's words, the best first.

Two kinds: FTS5 on SQLite, and a tsvector with a GIN index on PostgreSQL. Words are taken apart by our own code, so both
hold the same ones; ranking is BM25 (Robertson and others 1994; PostgreSQL has no such thing, there each word counts
once). Neither engine ranks a hundred thousand rows in time, so the rarest words choose at most `CANDIDATES` findings,
and of those that are left all words of the question decide.

The index is derived: `list_missing` names what is not in it, and its tables are not among the models.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import log
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Delete,
    Integer,
    Select,
    Text,
    TextClause,
    bindparam,
    cast,
    column,
    delete,
    insert,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR

from coordinator.db.engine import Conn, engine_of
from coordinator.experiments.tokenizer import MAX_TERMS, list_beginnings
from coordinator.models import Finding

CANDIDATES = 2_000
"""Findings that are ranked. A word that more of them hold tells little apart while there are rarer ones."""

COMMON_BESIDE_RARE, COMMON_ALONE = 2, 4
"""Number of common words that count, the longest first. Each costs a read of all findings that hold it."""

HEAD_WEIGHT, BODY_WEIGHT = 3.0, 1.0
"""A word in the claim, the title or the axis says more of what a finding is about than one in the text."""


class IndexedText(NamedTuple):
    """A finding's words: `head` those of title, claim, axis, value and tags; `body` all others."""

    finding_id: int
    project_id: int
    head: Sequence[str]
    body: Sequence[str]


class TextIndex(ABC):
    """The index of one engine. Project None stands for all of them."""

    _missing: TextClause
    _remove: Delete

    @abstractmethod
    def put(self, session: Conn, indexed: IndexedText, *, is_new: bool) -> None:
        """Store a finding's words; if it is not new, in the place of those before."""

    def remove(self, session: Conn, finding_ids: Sequence[int]) -> None:
        """Take findings out."""
        if finding_ids:
            session.execute(self._remove, [{"of": finding_id} for finding_id in finding_ids])

    def find(self, session: Conn, project_id: int | None, terms: Sequence[str], limit: int) -> list[int]:
        """Findings that hold some of the terms, the best first."""
        choice = _choose(self._count_holders(session, terms))
        return self._rank(session, project_id, choice, limit) if choice.rare or choice.common else []

    def list_missing(self, session: Conn, limit: int) -> list[int]:
        """Findings whose words are not in the index, and that are not hidden."""
        return list(session.scalars(self._missing, {"limit": limit}))

    @abstractmethod
    def select_holders(self, asked: str) -> Select[int]:
        """The findings whose head has a word for each of a text's that is it, or begins so; none without a word."""

    def holds(self, asked: str) -> ColumnElement[bool]:
        """That a finding is one of `select_holders`."""
        return Finding.id.in_(self.select_holders(asked))

    @abstractmethod
    def _count_holders(self, session: Conn, terms: Sequence[str]) -> dict[str, int]:
        """How many findings of all projects hold each term; more than `CANDIDATES` need not be counted."""

    @abstractmethod
    def _rank(self, session: Conn, project_id: int | None, choice: "_Choice", limit: int) -> list[int]: ...


def text_index_of(session: Conn) -> TextIndex:
    """The index on this session's database."""
    return _INDEXES[engine_of(session).dialect.name]


class _Choice(NamedTuple):
    """How candidates are chosen: findings with any of `rare`, or, where there are none, with all of `common`."""

    rare: list[str]
    common: list[str]
    counts: dict[str, int]


def _choose(counts: dict[str, int]) -> _Choice:
    """Take rare terms while all findings that hold one of them are not too many. Terms that nobody holds are left."""
    by_rarity = sorted((count, term) for term, count in counts.items() if count)[:MAX_TERMS]
    rare: list[str] = []
    total = 0
    for count, term in by_rarity:
        total += count
        if total > CANDIDATES:
            break
        rare.append(term)
    common = sorted((term for _, term in by_rarity[len(rare) :]), key=len, reverse=True)
    return _Choice(rare, common[: COMMON_BESIDE_RARE if rare else COMMON_ALONE], counts)


_FTS = table("search_texts", column("rowid", Integer), *(column(name, Text) for name in ("scope", "head", "body")))


class SqliteTextIndex(TextIndex):
    """FTS5. Its `scope` column holds the project, as a word; nothing looks for it: BM25 would count all its holders."""

    _put = insert(_FTS)
    _remove = delete(_FTS).where(_FTS.c.rowid == bindparam("of"))
    _count = text("select count(*) from (select rowid from search_texts where search_texts match :words limit :most)")
    _find = text(
        "select rowid from (select rowid, bm25(search_texts, 0.0, :head, :body) as cost from search_texts "
        "where search_texts match :words order by rowid desc limit :most) order by cost, rowid desc limit :limit"
    )
    _find_in_project = text(
        "select rowid from (select rowid, bm25(search_texts, 0.0, :head, :body) as cost from search_texts "
        "where search_texts match :words and exists (select 1 from findings where id = search_texts.rowid "
        "and project_id = :project_id) order by rowid desc limit :most) order by cost, rowid desc limit :limit"
    )
    _missing = text(
        "select id from findings where not is_hidden and id not in (select rowid from search_texts) order by id "
        "limit :limit"
    )

    def put(self, session: Conn, indexed: IndexedText, *, is_new: bool) -> None:
        if not is_new:
            self.remove(session, [indexed.finding_id])
        row = {"rowid": indexed.finding_id, "scope": f"p{indexed.project_id}"}
        session.execute(self._put, row | {"head": " ".join(indexed.head), "body": " ".join(indexed.body)})

    def select_holders(self, asked: str) -> Select[int]:
        words = " AND ".join(f'"{word}"{"*" * word.isalpha()}' for word in list_beginnings(asked))
        is_match = text("search_texts match :asked").bindparams(asked=f"{{head}} : ({words})" if words else '""')
        return select(_FTS.c.rowid).where(is_match)

    def holds(self, asked: str) -> ColumnElement[bool]:
        """With the number as such SQLite would look for each holder beside each experiment."""
        return (Finding.id + 0).in_(self.select_holders(asked))

    def _rank(self, session: Conn, project_id: int | None, choice: _Choice, limit: int) -> list[int]:
        given = {"words": _match(choice), "head": HEAD_WEIGHT, "body": BODY_WEIGHT, "most": CANDIDATES, "limit": limit}
        if project_id is None:
            return list(session.scalars(self._find, given))
        return list(session.scalars(self._find_in_project, given | {"project_id": project_id}))

    def _count_holders(self, session: Conn, terms: Sequence[str]) -> dict[str, int]:
        given = {"most": CANDIDATES + 1}
        return {term: session.scalar(self._count, given | {"words": f'"{term}"'}) or 0 for term in terms}


def _match(choice: _Choice) -> str:
    """FTS5's expression. BM25 looks at all words that stand in it, whether or not they were needed for the match."""
    common = [f'"{term}"' for term in choice.common]
    rare = " OR ".join(f'"{term}"' for term in choice.rare)
    either = f"(({rare}) AND ({' OR '.join(common)})) OR {rare}" if common else rare
    return f"{{head body}} : ({either if rare else ' AND '.join(common)})"


_TEXTS = table(
    "texts", column("finding_id", Integer), column("project_id", Integer), column("document", TSVECTOR), schema="search"
)


class PostgresTextIndex(TextIndex):
    """A tsvector in a schema of its own; weight A marks the head's words."""

    _new = postgresql.insert(_TEXTS).values(document=cast(bindparam("words", type_=Text), TSVECTOR))
    # Another transaction may put the words of the same finding that was missing: a newer version's win.
    _put_missing = _new.on_conflict_do_nothing()
    _replace = _new.on_conflict_do_update(index_elements=["finding_id"], set_={"document": _new.excluded.document})
    _remove = delete(_TEXTS).where(_TEXTS.c.finding_id == bindparam("of"))
    _common = text(
        "select known.word, known.share * texts.reltuples from pg_stats, pg_class as texts, "
        "unnest(cast(cast(most_common_elems as text) as text[]), most_common_elem_freqs) as known (word, share) "
        "where schemaname = 'search' and tablename = 'texts' and attname = 'document' "
        "and texts.oid = cast('search.texts' as regclass) and known.word = any(:words) "
        "and known.share * texts.reltuples > :most"
    )
    _missing = text(
        "select id from findings where not is_hidden and not exists (select from search.texts where finding_id = id) "
        "order by id limit :limit"
    )

    def put(self, session: Conn, indexed: IndexedText, *, is_new: bool) -> None:
        weights = dict.fromkeys(indexed.body, "") | dict.fromkeys(indexed.head, "A")
        words = " ".join(f"'{word}':1{weight}" for word, weight in weights.items())
        given = {"finding_id": indexed.finding_id, "project_id": indexed.project_id, "words": words}
        session.execute(self._put_missing if is_new else self._replace, given)

    def select_holders(self, asked: str) -> Select[int]:
        return select(_TEXTS.c.finding_id).where(_match_head(asked))

    def holds(self, asked: str) -> ColumnElement[bool]:
        # A query of its own for each finding: as a join PostgreSQL would read all texts that hold a common word.
        one = select(_match_head(asked)).where(_TEXTS.c.finding_id == Finding.id)
        return one.correlate(Finding).scalar_subquery()

    def _rank(self, session: Conn, project_id: int | None, choice: _Choice, limit: int) -> list[int]:
        asked = " | ".join(_quote(choice.rare)) if choice.rare else " & ".join(_quote(choice.common))
        within = (
            select(_TEXTS.c.finding_id, _TEXTS.c.document)
            .where(_TEXTS.c.document.op("@@")(text("cast(:asked as tsquery)").bindparams(asked=asked)))
            .order_by(_TEXTS.c.finding_id.desc())
            .limit(CANDIDATES)
        )
        if project_id is not None:
            within = within.where(_TEXTS.c.project_id == project_id)
        chosen = within.subquery("chosen")
        newest = session.scalar(select(_TEXTS.c.finding_id).order_by(_TEXTS.c.finding_id.desc()).limit(1)) or 1
        score: ColumnElement[float] = literal_column(_score(choice, newest))
        rows = select(chosen.c.finding_id).order_by(score.desc(), chosen.c.finding_id.desc()).limit(limit)
        return list(session.scalars(rows))

    def _count_holders(self, session: Conn, terms: Sequence[str]) -> dict[str, int]:
        # PostgreSQL reads all rows of a common word before it counts the first; but it keeps statistics of them.
        common = {
            word: int(count)
            for word, count in session.execute(self._common, {"words": list(terms), "most": CANDIDATES})
        }
        return common | self._count_rare(session, [term for term in terms if term not in common])

    def _count_rare(self, session: Conn, terms: Sequence[str]) -> dict[str, int]:
        if not terms:
            return {}
        counts = ", ".join(
            f"(select count(*) from (select from search.texts where document @@ cast(:t{at} as tsquery) limit :most) c)"  # noqa: S608 - numbers
            for at in range(len(terms))
        )
        given: dict[str, Any] = {f"t{at}": word for at, word in enumerate(_quote(terms))}
        row = session.execute(text(f"select {counts}"), given | {"most": CANDIDATES + 1}).one()
        return dict(zip(terms, row, strict=True))


def _match_head(asked: str) -> ColumnElement[bool]:
    """That a text's head has words that begin as those asked for; numbers are whole."""
    words = " & ".join(f"'{word}':{'*' * word.isalpha()}A" for word in list_beginnings(asked))
    return _TEXTS.c.document.bool_op("@@")(cast(words, TSQUERY))


def _quote(terms: Sequence[str]) -> list[str]:
    """Terms as a tsquery's text has them. They hold letters and digits only."""
    return [f"'{term}'" for term in terms]


def _score(choice: _Choice, findings: int) -> str:
    """BM25 in which a word counts once, and in the head `HEAD_WEIGHT` times; longer documents count less."""
    parts = []
    for term in (*choice.rare, *choice.common):
        count = choice.counts[term]
        idf = log(1 + (max(findings, count) - count + 0.5) / (count + 0.5))
        parts.append(
            f"{idf:.6f} * ((document @@ cast('''{term}''' as tsquery))::int * {BODY_WEIGHT} + "
            f"(document @@ cast('''{term}'':A' as tsquery))::int * {HEAD_WEIGHT - BODY_WEIGHT})"
        )
    return f"({' + '.join(parts)}) / (1 + {LENGTH_PULL} * length(document))"


LENGTH_PULL = 0.005
"""A finding of a hundred different words counts as two thirds of one that says the same in few."""

_INDEXES: dict[str, TextIndex] = {"sqlite": SqliteTextIndex(), "postgresql": PostgresTextIndex()}
