"""Run by Alembic, with the connection that `coordinator.db` opened."""

from alembic import context

from coordinator.models import include_name

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes["metadata"],
    render_as_batch=True,
    include_name=include_name,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
