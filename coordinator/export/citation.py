"""The words of a snapshot for people and archives: CITATION.cff, BibTeX, Zenodo's metadata, a dataset card."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.autoresearch.lookup import list_authors
from coordinator.export.formats import escape, write_entry
from coordinator.models import ImportedSession, Run, Volunteer, Worker
from shared.contract import CONTRACT_FILE
from shared.export import CHECKPOINT_FILE, HISTORY_FILE, SUMS_FILE, ExportTable, SnapshotView
from shared.projects import DataLicence

KEYWORDS = ["machine learning", "autoresearch", "volunteer computing", "negative results"]

LICENCES: Mapping[DataLicence, tuple[str, str]] = {
    DataLicence.CC0: ("cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    DataLicence.CC_BY: ("cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/"),
    DataLicence.CC_BY_SA: ("cc-by-sa-4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    DataLicence.CC_BY_NC: ("cc-by-nc-4.0", "https://creativecommons.org/licenses/by-nc/4.0/"),
    DataLicence.ODBL: ("odbl", "https://opendatacommons.org/licenses/odbl/1-0/"),
    DataLicence.ODC_BY: ("odc-by", "https://opendatacommons.org/licenses/by/1-0/"),
    DataLicence.PDDL: ("pddl", "https://opendatacommons.org/licenses/pddl/1-0/"),
}
"""The name of each licence at Hugging Face, and where its text is."""

_CARD = """\
# {title}

{question}

The snapshot `{name}` of the project `{project}` of a research swarm, as of {date} UTC: {experiments:,} experiments,
{runs:,} runs and {findings:,} findings, failures and negative results included. Nothing is added to it any more.

| file | |
|---|---|
| `experiments.*`, `runs.*`, `findings.*`, `citations.*`, `promotions.*` | rows; all three formats hold the same |
| `results.tsv` | the table of the original autoresearch loop (missing where nothing was measured) |
| `history.bundle` | every commit: `git clone history.bundle`; each experiment has a tag `experiments/N` |
| `snapshot.db` | the same as a SQLite database: `swarm-coordinator serve --snapshot .` serves it as pages and API |
| `{history}`, `{checkpoint}` | the signed log of all results |
| `{contract}` | the contract: metric, limits, editable files |
| `snapshot.json` | epochs in which the evidence was frozen, and counts |
| `{sums}`, `{sums}.note` | checksums of all files, and their signature by the log's key |

{caution}A metric's effect is metric(child) - metric(parent), or - metric(nearest ancestor that was measured), with the
offsets of workers removed. Results of different hardware classes do not compare.

**Verify it** with `pip install research-swarm` and `swarm verify .`, or the files alone with
`sha256sum --check {sums}`.

**Cite it** by `citation.bib` or `CITATION.cff`. The data are under {licence}: <{licence_url}>.
"""


SELF_SCORED = "Self-scored: the edited files report the metric themselves, and no check covers it."


def _describe(view: SnapshotView) -> str:
    """The question, and that nothing checks the metric where that is so."""
    return " ".join([view.question or view.title, *([SELF_SCORED] if view.self_scored else [])])


def list_people(session: Session, title: str) -> list[str]:
    """Authors: those of imported sessions, volunteers who agreed to be named, and the others together. Of each kind who
    did most comes first."""
    authors = list_authors(session)
    is_counted = Volunteer.quarantine.is_(None) & Worker.id.not_in(select(ImportedSession.worker_id))
    query = (
        select(Volunteer.cited_as, func.count())
        .join(Worker, Worker.volunteer_id == Volunteer.id)
        .join(Run, Run.worker_id == Worker.id)
        .where(is_counted)
        .group_by(Volunteer.id)
        .order_by(func.count().desc(), Volunteer.id)
    )
    rows = session.execute(query).all()
    named = list(dict.fromkeys(name for name, _ in rows if name))
    others = [f"The volunteers of {title}"] if len(named) < len(rows) or not [*authors, *named] else []
    return list(dict.fromkeys([*authors, *named, *others]))


def write_cff(view: SnapshotView, url: str) -> str:
    """CITATION.cff 1.2.0."""
    fields: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use these data, please cite them as below.",
        "type": "dataset",
        "title": view.title,
        "version": view.name,
        "date-released": f"{view.as_of:%Y-%m-%d}",
        "license": view.licence.value,
        "authors": [_split_name(name) for name in view.people],
        "keywords": KEYWORDS,
        "abstract": _describe(view),
    }
    return _write_yaml(fields | ({"url": url} if url else {}))


def _split_name(name: str) -> dict[str, str]:
    """A person's given and family names, also of `Family, Given`; one word, and the name of a group, is a name."""
    family, comma, given = (part.strip() for part in name.partition(","))
    if not comma:
        given, _, family = name.rpartition(" ")
    return {"name": name} if not given or name.startswith("The ") else {"given-names": given, "family-names": family}


def write_bibtex(view: SnapshotView, url: str) -> str:
    authors = " and ".join(map(_name_author, view.people))
    fields = {
        "title": f"{{{escape(view.title)}}}",
        "author": authors,
        "year": f"{view.as_of:%Y}",
        "month": f"{view.as_of:%b}".lower(),
        "version": escape(view.name),
        **({"howpublished": rf"\url{{{url}}}"} if url else {}),
        "note": f"Snapshot {escape(view.name)} of {view.as_of:%Y-%m-%d}; log {escape(view.origin)}, "
        f"{view.log_size} entries, root {view.log_root}{'; self-scored' if view.self_scored else ''}",
    }
    return write_entry(f"swarm-{view.project}-{view.name}", fields)


def _name_author(name: str) -> str:
    """A person by the family name, as BibTeX sorts and abbreviates; anything else as one name, in braces."""
    parts = _split_name(name)
    if "name" in parts or " and " in name.casefold() or "," in parts["family-names"]:
        return f"{{{escape(name)}}}"
    return f"{escape(parts['family-names'])}, {escape(parts['given-names'])}"


def write_zenodo(view: SnapshotView) -> str:
    """`.zenodo.json`, as Zenodo's deposit metadata."""
    fields = {
        "title": f"{view.title}: {view.name}",
        "upload_type": "dataset",
        "description": f"<p>{html.escape(_describe(view), quote=False)}</p>",
        "creators": [{"name": _family_first(name)} for name in view.people],
        "publication_date": f"{view.as_of:%Y-%m-%d}",
        "version": view.name,
        "access_right": "open",
        "license": view.licence.value.lower(),
        "keywords": KEYWORDS,
    }
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def _family_first(name: str) -> str:
    parts = _split_name(name)
    return parts["name"] if "name" in parts else f"{parts['family-names']}, {parts['given-names']}"


def write_card(view: SnapshotView) -> str:
    """README.md with the header that Hugging Face reads."""
    name, address = LICENCES[view.licence]
    head = {
        "pretty_name": view.title,
        "license": name,
        "tags": [keyword.replace(" ", "-") for keyword in KEYWORDS],
        "configs": [
            {"config_name": table.value, "data_files": f"{table}.parquet"} | ({"default": True} if not number else {})
            for number, table in enumerate(ExportTable)
        ],
    }
    body = _CARD.format(
        title=view.title, question=view.question, name=view.name, project=view.project,
        date=f"{view.as_of:%Y-%m-%d %H:%M}",
        experiments=view.experiments, runs=view.runs, findings=view.findings, history=HISTORY_FILE,
        caution=f"**{SELF_SCORED}**\n\n" if view.self_scored else "",
        checkpoint=CHECKPOINT_FILE, contract=CONTRACT_FILE, sums=SUMS_FILE, licence=view.licence.value,
        licence_url=address,
    )  # fmt: skip
    return f"---\n{_write_yaml(head)}---\n\n{body}"


def _write_yaml(fields: Mapping[str, Any]) -> str:
    """YAML whose values are written as JSON, which is part of it; lists have a line for each entry."""
    lines: list[str] = []
    for name, value in fields.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            lines += [f"{name}:", *(f"  - {json.dumps(one, ensure_ascii=False)}" for one in value)]
        else:
            lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
