"""Rows of the audit by act: every approval, verdict or accepted label, without reading all rows."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("audit_by_act", "audit", ["act", "seq"])


def downgrade() -> None:
    """Remove it; searches by act read all rows again."""
    op.drop_index("audit_by_act", "audit")
