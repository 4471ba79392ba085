"""Alembic's entry: runs the steps on the connection that the database hands over."""

from alembic import context

from hilum.records.schema import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
