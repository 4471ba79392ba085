"""What answers looked like, alarms of the monitor, and what is and was in production."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables of monitoring and change control."""
    _watching()
    _changing()


def _watching() -> None:
    op.create_table(
        "observations",
        sa.Column("answer_id", sa.String(32), sa.ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("observed_at", INSTANT, nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("view_position", sa.String(16), nullable=False),
        sa.Column("sex", sa.String(16), nullable=False),
        sa.Column("age_band", sa.String(16), nullable=False),
        sa.Column("size_class", sa.String(16), nullable=False),
        sa.Column("pixel_statistics", sa.LargeBinary, nullable=False),
        sa.Column("scores", sa.LargeBinary),
        sa.Column("features", sa.LargeBinary),
    )
    op.create_index("observations_by_time", "observations", ["observed_at"])
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("culprit", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("quiet_looks", sa.Integer, nullable=False),
        sa.Column("acknowledged_by", sa.String(64), nullable=False),
        sa.Column("acknowledged_at", INSTANT),
        sa.Column("closed_by", sa.String(64), nullable=False),
        sa.Column("closed_at", INSTANT),
        sa.Column("reason", sa.Text, nullable=False),
        sa.CheckConstraint("state IN ('open', 'acknowledged', 'closed')", name="alarms_state_known"),
    )
    op.create_index("alarms_by_state", "alarms", ["state", "opened_at"])


def _changing() -> None:
    op.create_table(
        "models",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("proposal_sha256", sa.String(64), nullable=False),
        sa.Column("registered_at", INSTANT, nullable=False),
        sa.Column("registered_by", sa.String(96), nullable=False),
    )
    op.create_table(
        "deployments",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("act", sa.String(16), nullable=False),
        sa.Column("production", sa.String(64), sa.ForeignKey("models.sha256"), nullable=False),
        sa.Column("candidate", sa.String(64), sa.ForeignKey("models.sha256")),
        sa.Column("stage", sa.String(8), nullable=False),
        sa.Column("share", sa.Integer, nullable=False),
        sa.Column("actor", sa.String(96), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.CheckConstraint("stage IN ('full', 'shadow', 'canary')", name="deployments_stage_known"),
        sa.CheckConstraint("share >= 0 AND share <= 10000", name="deployments_share_in_ten_thousandths"),
    )


def downgrade() -> None:
    """Remove them; what was in production when is then no longer known."""
    for table in ("deployments", "models", "alarms", "observations"):
        op.drop_table(table)
