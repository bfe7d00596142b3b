"""Readers report findings to the moderators: with or without an account, so many an hour."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.locks import lock_hashes
from coordinator.findings.papers import get_shown
from coordinator.http.addresses import hash_address
from coordinator.http.errors import SwarmError
from coordinator.models import FindingReport
from shared.protocol import now

REPORTS_PER_HOUR = 10
"""Reports from one address, and by one account, within an hour."""

MAX_OPEN_REPORTS = 50
"""Reports of one finding that are kept within an hour; more say nothing new."""

LOCAL_ADDRESS = "0" * 64


class ReportsBusyError(
    SwarmError, status=429, title="Too many reports were sent lately", headers={"Retry-After": "600"}
):
    pass


def report_finding(session: Session, finding_id: int, text: str, volunteer_id: int | None, address: str | None) -> None:
    """Store a reader's report of a finding. Raises NotFoundError, FindingHiddenError, ReportsBusyError."""
    get_shown(session, finding_id)
    address_sha256 = hash_address(address) or LOCAL_ADDRESS
    lock_hashes(session, [address_sha256])  # reports from one address are counted one after the other
    since = FindingReport.created_at >= now() - timedelta(hours=1)
    limits = [(FindingReport.finding_id == finding_id, MAX_OPEN_REPORTS)]
    limits += [(FindingReport.address_sha256 == address_sha256, REPORTS_PER_HOUR)]
    limits += [(FindingReport.volunteer_id == volunteer_id, REPORTS_PER_HOUR)] if volunteer_id is not None else []
    for condition, allowed in limits:
        if (session.scalar(select(func.count()).select_from(FindingReport).where(condition, since)) or 0) >= allowed:
            raise ReportsBusyError("The moderators have those before. Try again later.")
    session.add(
        FindingReport(
            finding_id=finding_id, volunteer_id=volunteer_id, address_sha256=address_sha256, text=text, created_at=now()
        )
    )
    session.flush()
