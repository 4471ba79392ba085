"""What every film is known by: the digest of its file as kept now; former films get theirs while the service runs."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column, empty: it takes each film's bytes to fill it, which are not here and may be encrypted."""
    op.add_column("films", sa.Column("identity_sha256", sa.String(64)))
    op.create_index("films_by_identity", "films", ["identity_sha256"], unique=True)


def downgrade() -> None:
    """Remove it; films that came meanwhile, sent again, are then other films to the older version."""
    op.drop_index("films_by_identity", "films")
    op.drop_column("films", "identity_sha256")
