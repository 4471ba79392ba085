"""Who sent a film and whether it is urgent, so that senders take turns."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns; films from before are routine ones of one sender."""
    op.add_column("films", sa.Column("sender", sa.String(96), nullable=False, server_default=""))
    op.add_column("films", sa.Column("urgent", sa.Boolean, nullable=False, server_default=sa.text("false")))


def downgrade() -> None:
    """Remove them."""
    op.drop_column("films", "urgent")
    op.drop_column("films", "sender")
