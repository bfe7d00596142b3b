"""Findings as BibTeX entries."""

from sqlalchemy.orm import Session

from coordinator.export import queries
from coordinator.http.errors import NotFoundError

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
        "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    }
)  # fmt: skip


def cite(session: Session, finding_id: int, base_url: str) -> str:
    """An entry of kind `misc`. It names commit and address; the numbers are looked up there. Raises NotFoundError."""
    found = queries.find_cited(session, finding_id)
    if found is None:
        raise NotFoundError(f"There is no finding {finding_id}.")
    fields = {
        "title": f"{{{escape(found.claim)}}}",
        "author": f"{{{escape(found.volunteer)}}} and {{{escape(found.agent)}}}",
        "year": f"{found.created_at:%Y}",
        "month": f"{found.created_at:%b}".lower(),
        "howpublished": rf"\url{{{base_url}/findings/{finding_id}}}",
        "note": f"Finding {finding_id} of the research swarm's project {escape(found.project)}, "
        f"experiment {found.experiment_id}, commit {found.sha}",
    }
    lines = [f"  {name} = {value if name == 'month' else '{' + value + '}'}," for name, value in fields.items()]
    return "\n".join([f"@misc{{swarm-{found.project}-{finding_id},", *lines, "}\n"])


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return " ".join(text.split()).translate(_ESCAPES)
