"""Passwords that an admin set, good once and for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every password that is there is its user's own."""
    op.add_column("users", sa.Column("temporary_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Remove it; whoever has a temporary password can't log in until another is set."""
    op.execute("UPDATE users SET password = '' WHERE temporary_until IS NOT NULL")
    op.drop_column("users", "temporary_until")
