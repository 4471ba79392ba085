"""How films are read: more of each review, and how far the reading of a film is."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXTS = (("reason_code", sa.String(32)), ("regions", sa.Text), ("shown", sa.Text))


def upgrade() -> None:
    """Add the columns and the table; films that were reviewed before are read."""
    for name, kind in TEXTS:
        op.add_column("reviews", sa.Column(name, kind, nullable=False, server_default=""))
    op.add_column("reviews", sa.Column("seconds", sa.Double))
    op.create_table(
        "readings",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("claimed_by", sa.String(64)),
        sa.Column("claimed_until", sa.DateTime(timezone=True)),
    )
    op.execute("INSERT INTO readings (film_id, status) SELECT DISTINCT film_id, 'read' FROM reviews")


def downgrade() -> None:
    """Remove them; opinions before the answer and withdrawn reviews, which the tables before don't know, go too."""
    op.drop_table("readings")
    op.execute("DELETE FROM reviews WHERE decision NOT IN ('agree', 'override')")
    for name in ("seconds", *(name for name, _ in reversed(TEXTS))):
        op.drop_column("reviews", name)
