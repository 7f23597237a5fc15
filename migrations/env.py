"""On which connection do the migrations run? On the caller's, else on the database of the settings."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from qosqueue.settings import load_settings
from qosqueue.store.bulk_tables import ALL_TABLES
from qosqueue.store.session import open_store


def run(connection: Connection) -> None:
    """Run what the command asks for; the transaction belongs to the connection's owner."""
    # SQLite can undo a change of tables too; Alembic believes that it cannot.
    context.configure(connection=connection, target_metadata=ALL_TABLES, render_as_batch=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    store = open_store(load_settings().sql_url())
    with store.change() as session:
        run(session.connection())
    store.close()
