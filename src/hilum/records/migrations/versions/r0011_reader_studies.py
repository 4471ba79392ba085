"""Reader studies on the pages, and whether answers were covered when a reader gave an opinion."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SLOT = ("study", "reader", "session", "position")


def upgrade() -> None:
    """Make the tables and the column; whether answers were covered before is not known."""
    op.add_column("reviews", sa.Column("read_first", sa.Boolean))
    op.create_table(
        "reader_studies",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("plan_sha256", sa.String(64), nullable=False),
        sa.Column("question", sa.String(64), nullable=False),
        sa.Column("findings", sa.Text, nullable=False),
        sa.Column("answer", sa.String(8), nullable=False),
        sa.Column("priors", sa.Boolean, nullable=False),
        sa.Column("washout_days", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(96), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "study_slots",
        sa.Column("study", sa.String(64), sa.ForeignKey("reader_studies.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("reader", sa.String(64), primary_key=True),
        sa.Column("session", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), nullable=False),
        sa.Column("film_name", sa.String(64), nullable=False),
        sa.Column("arm", sa.String(8), nullable=False),
        sa.UniqueConstraint("study", "reader", "film_id", "arm", name="study_slots_once_each_way"),
        sa.CheckConstraint("arm IN ('without', 'with')", name="study_slots_arm_known"),
    )
    op.create_index("study_slots_by_reader", "study_slots", ["reader", "film_id"])
    op.create_index("study_slots_by_film", "study_slots", ["film_id"])
    op.create_table(
        "study_opinions",
        sa.Column("study", sa.String(64), primary_key=True),
        sa.Column("reader", sa.String(64), primary_key=True),
        sa.Column("session", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.String(8), primary_key=True),
        sa.Column("finding", sa.String(64), nullable=False),
        sa.Column("rating", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("model_sha256", sa.String(64)),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            SLOT, [f"study_slots.{name}" for name in SLOT], ondelete="CASCADE", name="study_opinions_in_a_slot"
        ),
        sa.CheckConstraint("stage IN ('first', 'final')", name="study_opinions_stage_known"),
        sa.CheckConstraint("rating >= 0 AND rating <= 100", name="study_opinions_rating_in_range"),
    )


def downgrade() -> None:
    """Remove them; what readers said in studies is lost."""
    for table in ("study_opinions", "study_slots", "reader_studies"):
        op.drop_table(table)
    op.drop_column("reviews", "read_first")
