"""For which films a PACS is asked for earlier ones, and which films are priors of which."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the queue of look-ups, and the table of priors."""
    film = sa.ForeignKey("films.id", ondelete="CASCADE")
    op.create_table(
        "look_ups",
        sa.Column("film_id", sa.String(32), film, primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("lease_owner", sa.String(32)),
        sa.Column("lease_until", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("reason_code", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'looking', 'done', 'dead')", name="look_ups_state_known"),
    )
    op.create_index("look_ups_by_due", "look_ups", ["state", "due_at"])
    op.create_table(
        "priors",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("prior_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE")),
        sa.CheckConstraint("state IN ('wanted', 'there', 'refused')", name="priors_state_known"),
    )
    op.create_index("priors_by_sop_instance", "priors", ["sop_instance_uid", "state"])


def downgrade() -> None:
    """Forget which films are priors; the films stay."""
    op.drop_table("priors")
    op.drop_table("look_ups")
