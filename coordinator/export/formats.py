"""Rows as bytes, one batch in memory at a time."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType, NoneType
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime
from sqlalchemy.orm import Session

from coordinator.export import queries
from coordinator.findings.papers import view_words
from coordinator.projects import service as projects
from shared.export import ExportFormat
from shared.protocol import Message

Batches = Iterable[Sequence[Message]]

MEDIA_TYPES = {
    ExportFormat.JSONL: "application/jsonl",
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}


def write_rows(model: type[Message], batches: Batches, format_: ExportFormat) -> Iterator[bytes]:
    """The rows in a format; an export without rows has its header all the same."""
    if format_ == ExportFormat.JSONL:
        return _write_jsonl(batches)
    return _write_csv(model, batches) if format_ == ExportFormat.CSV else _write_parquet(model, batches)


def _write_jsonl(batches: Batches) -> Iterator[bytes]:
    for batch in batches:
        yield "".join(row.model_dump_json() + "\n" for row in batch).encode()


def _write_csv(model: type[Message], batches: Batches) -> Iterator[bytes]:
    """As RFC 4180, but for lines that end with a line feed alone. What is missing is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(model.model_fields), lineterminator="\n")
    writer.writeheader()
    yield text.getvalue().encode()
    for batch in batches:
        text.seek(0)
        text.truncate()
        writer.writerows(row.model_dump(mode="json") for row in batch)
        yield text.getvalue().encode()


class _Sink(io.RawIOBase):
    """A file whose content is taken out as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _write_parquet(model: type[Message], batches: Batches) -> Iterator[bytes]:
    """Each batch is a row group."""
    import pyarrow as pa  # noqa: PLC0415  who exports no Parquet does not pay for it: 50 MB
    from pyarrow import parquet  # noqa: PLC0415  likewise

    schema = pa.schema(
        [
            pa.field(name, _arrow_type(pa, info.annotation), nullable=_is_optional(info.annotation))
            for name, info in model.model_fields.items()
        ]
    )
    sink = _Sink()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in batches:
            rows = [_plain(row) for row in batch]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            yield sink.take()
    yield sink.take()


def _plain(row: Message) -> dict[str, Any]:
    """A row with values that Arrow takes: times as they are, enums and ids as text."""
    return {name: str(value) if isinstance(value, str | UUID) else value for name, value in row}


def _is_optional(annotation: Any) -> bool:
    return NoneType in get_args(annotation)


def _arrow_type(arrow: ModuleType, annotation: Any) -> Any:
    """The Arrow type of a field: numbers and times as such, everything else as text."""
    kind = next((part for part in get_args(annotation) if part is not NoneType), annotation)
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if kind is AwareDatetime:
        return arrow.timestamp("us", tz="UTC")
    return {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}.get(kind, arrow.string())


_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}",
        "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
        "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    }
)  # fmt: skip


def cite(session: Session, finding_id: int, base_url: str, when: str) -> str:
    """An entry of kind `misc`. It names the commit, the address if there is one, and `when` its numbers are from.

    Raises NotFoundError, FindingHiddenError.
    """
    claim = view_words(session, finding_id).claim
    found = queries.find_cited(session, finding_id)
    assert found is not None
    moment, project = found["done_at"], found["project"]
    people = [found["agent"]] if found["is_imported"] else [found["volunteer"], found["agent"]]
    objective = projects.contract_of(projects.get_project(session, project)).objective
    caution = "self-scored; " if objective.is_self_scored else ""
    date = {"year": f"{moment:%Y}", "month": f"{moment:%b}".lower()} if moment else {}
    fields = {
        "title": f"{{{escape(claim)}}}",
        "author": " and ".join(f"{{{escape(name)}}}" for name in people),
        **date,
        **({"howpublished": rf"\url{{{base_url}/findings/{finding_id}}}"} if base_url else {}),
        "note": f"Finding {finding_id} of the research swarm's project {escape(project)}, "
        f"experiment {found['experiment_id']}, commit {found['commit_sha']}; {caution}{escape(when)}",
    }
    return write_entry(f"swarm-{project}-{finding_id}", fields)


def write_entry(key: str, fields: Mapping[str, str]) -> str:
    """A BibTeX entry of kind `misc`; a month is a name that BibTeX knows."""
    lines = [f"  {name} = {value if name == 'month' else '{' + value + '}'}," for name, value in fields.items()]
    return "\n".join([f"@misc{{{key},", *lines, "}\n"])


def escape(text: str) -> str:
    """Text as LaTeX prints it. BibTeX counts braces with a backslash before them, too, so they have names."""
    return " ".join(text.split()).translate(_ESCAPES)
