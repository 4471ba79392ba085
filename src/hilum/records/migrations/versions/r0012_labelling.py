"""The labelling queue, and ways into the audit by who and when."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of labelling, and two indexes of the audit."""
    op.create_table(
        "label_batches",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("drawn_by", sa.String(96), nullable=False),
        sa.Column("films", sa.Integer, nullable=False),
        sa.Column("pool", sa.Integer, nullable=False),
        sa.Column("twice", sa.Integer, nullable=False),
        sa.Column("how", sa.Text, nullable=False),
    )
    op.create_table(
        "label_tasks",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("batch_id", sa.String(32), sa.ForeignKey("label_batches.id"), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("readings", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'agreed', 'differ', 'undecided')", name="label_tasks_state_known"),
    )
    op.create_index("label_tasks_by_state", "label_tasks", ["state", "batch_id", "place"])
    op.create_table(
        "label_holds",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("reader", sa.String(64), primary_key=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
    )
    op.create_table(
        "blind_labels",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), nullable=False),
        sa.Column("reader", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("finding", sa.String(64)),
        sa.Column("reason_code", sa.String(32), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("shown", sa.Text, nullable=False),
        sa.UniqueConstraint("film_id", "reader", "version", name="blind_labels_one_per_version"),
    )
    op.create_index("audit_by_actor", "audit", ["actor", "seq"])
    op.create_index("audit_by_time", "audit", ["at"])


def downgrade() -> None:
    """Remove them; what was drawn and labelled is then lost."""
    op.drop_index("audit_by_time", "audit")
    op.drop_index("audit_by_actor", "audit")
    for table in ("blind_labels", "label_holds", "label_tasks", "label_batches"):
        op.drop_table(table)
