"""Context packs move into their own table, word for word."""

import json

from alembic import command
from sqlalchemy import text

from coordinator.db.database import Database, migration_config
from tests.migrations.test_every_revision import empty, fill, read_tables  # noqa: F401 - a fixture


def test_packs_are_kept(empty: Database) -> None:  # noqa: F811 - the fixture
    with empty.engine.begin() as connection:
        command.upgrade(migration_config(connection), "0014")
    with empty.engine.begin() as connection:
        fill(connection, read_tables(connection))
        first, second = connection.scalars(text("select id from leases order by id"))
        set_pack = text("update leases set context = :context, findings_read = :findings where id = :id")
        connection.execute(set_pack, {"id": first, "context": "> - read\n", "findings": "[3, 1]"})
        connection.execute(set_pack, {"id": second, "context": "", "findings": None})
    empty.migrate()
    with empty.engine.connect() as connection:
        [pack] = connection.execute(text("select * from context_packs"))
    findings = json.loads(pack.findings) if isinstance(pack.findings, str) else pack.findings
    assert (pack.lease_id, pack.text, findings) == (first, "> - read\n", [3, 1])
