"""Context packs in a table of their own: a lease changes five times, what its agent read never does"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "context_packs",
        sa.Column("lease_id", sa.Uuid(), sa.ForeignKey("leases.id"), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
    )
    nothing = "'[]'" if op.get_bind().dialect.name == "sqlite" else "'[]'::json"
    op.execute(
        "INSERT INTO context_packs (lease_id, text, findings) "  # noqa: S608  its parts stand here
        f"SELECT id, context, coalesce(findings_read, {nothing}) FROM leases WHERE context <> ''"
    )
    op.drop_column("leases", "context")
    op.drop_column("leases", "findings_read")
