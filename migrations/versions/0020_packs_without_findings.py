"""Packs that were made without findings, and proposals that were refused because they were tried before"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("refused_proposals", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("context_packs", sa.Column("with_findings", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_index("ix_leases_issued", "leases", ["project_id", "issued_at"])
