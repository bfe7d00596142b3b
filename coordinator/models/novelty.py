"""Embeddings of texts, by which those that are alike are found."""

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base


class Embedding(Base):
    """A text's vector by one model: 32-bit numbers, little-endian, of length one.

    `subject` is the kind of text, and `key` names it there: for `proposal`, the lease that it was made for.
    """

    __tablename__ = "embeddings"
    __table_args__ = (UniqueConstraint("subject", "key", "model"), Index("ix_embeddings_model_id", "model", "id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    subject: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(36))
    model: Mapped[str] = mapped_column(String(120))
    vector: Mapped[bytes] = mapped_column(LargeBinary)
