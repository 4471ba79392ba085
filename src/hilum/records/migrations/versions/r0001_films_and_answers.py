"""Films, their identifiers, answers and heat maps."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATES = "'received', 'preparing', 'answered', 'not-analysed', 'failed', 'quarantined'"
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the first tables."""
    _films()
    op.create_table(
        "identifiers",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("accession_number", sa.Text, nullable=False),
    )
    op.create_table(
        "answers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("label", sa.String(64)),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("risk", sa.Double),
        sa.Column("assessment", sa.Text, nullable=False),
        sa.UniqueConstraint("film_id", "model_sha256", name="answers_one_per_film_and_model"),
    )
    op.create_table(
        "heatmaps",
        sa.Column("answer_id", sa.String(32), sa.ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("finding", sa.String(64), primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("columns", sa.Integer, nullable=False),
        sa.Column("values", sa.LargeBinary, nullable=False),
        sa.Column("spread", sa.LargeBinary),
    )


def _films() -> None:
    op.create_table(
        "films",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("calling_ae", sa.String(16), nullable=False),
        sa.Column("format", sa.String(8), nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("file_sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64)),
        sa.Column("study_instance_uid", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_owner", sa.String(32)),
        sa.Column("lease_until", INSTANT),
        sa.Column("reason_code", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.CheckConstraint(f"state IN ({STATES})", name="films_state_known"),
    )
    in_use = sa.text("state <> 'quarantined'")
    op.create_index(
        "films_one_per_sop_instance",
        "films",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=in_use,
        postgresql_where=in_use,
    )
    op.create_index("films_by_state", "films", ["state", "lease_until"])
    op.create_index("films_by_time", "films", ["received_at", "id"])


def downgrade() -> None:
    """Remove the tables, and with them every record."""
    for name in ("heatmaps", "answers", "identifiers", "films"):
        op.drop_table(name)
