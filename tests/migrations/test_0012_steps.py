"""Commits of experiments that adopted several steps count them; all others take one."""

from alembic import command
from sqlalchemy import text

from coordinator.db.database import Database, migration_config
from tests.migrations.test_every_revision import empty, fill, read_tables  # noqa: F401 - a fixture

STEPS = "select experiments.id, commits.steps from experiments join commits on commits.sha = experiments.commit_sha"


def test_adopted_steps_are_counted(empty: Database) -> None:  # noqa: F811 - the fixture
    with empty.engine.begin() as connection:
        command.upgrade(migration_config(connection), "0011")
    with empty.engine.begin() as connection:
        fill(connection, read_tables(connection))
        first, second = connection.scalars(text("select id from experiments order by id"))
        connection.execute(text("delete from assembled_steps"))
        connection.execute(text("update experiments set kind = 'adopt' where id = :id"), {"id": second})
        connection.execute(text("update experiments set kind = 'ablate' where id = :id"), {"id": first})
        taken = [(second, first, "done"), (second, second, "done"), (first, first, "done")]
        for experiment, step, fate in taken:
            given = {"experiment": experiment, "step": step, "fate": fate}
            connection.execute(
                text("insert into assembled_steps (experiment_id, step_id, fate) values (:experiment, :step, :fate)"),
                given,
            )
    empty.migrate()
    with empty.engine.connect() as connection:
        assert {row.id: row.steps for row in connection.execute(text(STEPS))} == {first: 1, second: 2}
