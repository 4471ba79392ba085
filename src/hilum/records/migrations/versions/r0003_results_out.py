"""Where results are sent, and which answers are on their way there."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the queue of results."""
    op.create_table(
        "destinations",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("reviews", sa.Boolean, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("answer_id", sa.String(32), sa.ForeignKey("answers.id", ondelete="CASCADE"), nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("review_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("lease_owner", sa.String(32)),
        sa.Column("lease_until", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("reason_code", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.UniqueConstraint("answer_id", "destination", "review_id", name="deliveries_once_per_destination"),
        sa.CheckConstraint("state IN ('waiting', 'sending', 'sent', 'dead')", name="deliveries_state_known"),
    )
    op.create_index("deliveries_by_due", "deliveries", ["destination", "state", "due_at"])


def downgrade() -> None:
    """Remove the queue; what was not sent yet is then never sent."""
    op.drop_table("deliveries")
    op.drop_table("destinations")
