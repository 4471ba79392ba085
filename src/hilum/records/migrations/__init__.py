"""Steps of the schema, run by alembic at start; each is written once and never changed."""
