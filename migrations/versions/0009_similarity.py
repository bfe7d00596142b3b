"""Ideas of proposals, and embeddings of texts"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Proposals from before have no names and no vectors: they are still known by their code.
    op.add_column("leases", sa.Column("proposed_idea", sa.String(length=64)))
    op.add_column("leases", sa.Column("proposed_move", sa.String(length=64)))
    op.create_index("ix_leases_idea", "leases", ["project_id", "proposed_idea"])
    op.create_index("ix_leases_move", "leases", ["project_id", "proposed_move"])
    op.create_table(
        "embeddings",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("subject", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("subject", "key", "model", name=op.f("uq_embeddings_subject_key_model")),
    )
    op.create_index(op.f("ix_embeddings_project_id"), "embeddings", ["project_id"])
    op.create_index("ix_embeddings_model_id", "embeddings", ["model", "id"])
