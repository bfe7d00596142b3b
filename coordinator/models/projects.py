"""Projects: one research question each."""

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha


class Project(Base):
    """`contract` is the text of `swarm.toml` as it stands in the root commit."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    title: Mapped[str] = mapped_column(String(200))
    question: Mapped[str] = mapped_column(Text)
    contract: Mapped[str] = mapped_column(Text)
    contract_version: Mapped[int]
    root_sha: Mapped[str] = mapped_column(Sha)
    created_at: Mapped[datetime]
