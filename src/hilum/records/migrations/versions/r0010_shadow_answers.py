"""What a candidate in shadow said beside the model that answered."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of shadow answers."""
    op.create_table(
        "shadow_answers",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("model_sha256", sa.String(64), primary_key=True),
        sa.Column("beside_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("label", sa.String(64)),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("risk", sa.Double),
    )


def downgrade() -> None:
    """Remove it; how candidates in shadow answered is then no longer known."""
    op.drop_table("shadow_answers")
