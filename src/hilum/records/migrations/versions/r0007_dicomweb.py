"""What DICOMweb finds, how far followers are, and what requests with a key of their own made."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; films that are there already are found after the service has read their headers."""
    op.create_table(
        "dicom_objects",
        sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), nullable=False),
        sa.Column("answer_id", sa.String(32), nullable=False),
        sa.Column("review_id", sa.String(32), nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("study_date", sa.String(8), nullable=False),
        sa.Column("header", sa.Text, nullable=False),
    )
    op.create_index("dicom_objects_by_study", "dicom_objects", ["study_instance_uid", "series_instance_uid"])
    op.create_index("dicom_objects_by_date", "dicom_objects", ["study_date", "study_instance_uid"])
    op.create_index("dicom_objects_by_film", "dicom_objects", ["film_id"])
    op.create_table(
        "followers",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("place", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "creations",
        sa.Column("key_sha256", sa.String(64), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(96), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Remove them; nothing of the films or answers is lost."""
    op.drop_table("creations")
    op.drop_table("followers")
    op.drop_table("dicom_objects")
