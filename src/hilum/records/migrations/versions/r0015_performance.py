"""What labels said of the answers, each time that it was measured."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "performance",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("measured_by", sa.String(64), nullable=False),
        sa.Column("finding", sa.String(64), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("spans", sa.Text(), nullable=False),
    )
    op.create_index("performance_by_finding", "performance", ["finding", "measured_at"])


def downgrade() -> None:
    """Remove it; what was measured can be measured anew."""
    op.drop_table("performance")
