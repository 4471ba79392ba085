"""Identifiers as one value that can be encrypted, digests to find them by, data keys, files still to be removed."""

import hashlib
import hmac
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UIDS = {
    "films": ("sop_instance_uid", "study_instance_uid"),
    "priors": ("sop_instance_uid",),
    "dicom_objects": ("sop_instance_uid", "study_instance_uid", "series_instance_uid"),
}
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Rebuild the table of identifiers; what was in it stays readable until the service is started with a data key."""
    connection = op.get_bind()
    old = connection.execute(
        sa.text(
            "SELECT i.film_id, i.patient_id, i.accession_number, f.sop_instance_uid, f.study_instance_uid "
            "FROM identifiers i JOIN films f ON f.id = i.film_id"
        )
    ).all()
    op.drop_table("identifiers")
    identifiers = op.create_table(
        "identifiers",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("patient_index", sa.String(64), nullable=False),
        sa.Column("accession_index", sa.String(64), nullable=False),
    )
    op.create_index("identifiers_by_patient", "identifiers", ["patient_index"])
    op.create_index("identifiers_by_accession", "identifiers", ["accession_index"])
    for at in range(0, len(old), 1000):
        connection.execute(sa.insert(identifiers), [_row(*row) for row in old[at : at + 1000]])
    op.create_table(
        "data_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("since", INSTANT, nullable=False),
    )
    op.create_table(
        "erased_files",
        sa.Column("file_sha256", sa.String(64), primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
    )
    if connection.dialect.name == "postgresql":  # SQLite holds no column to its length, and a ciphertext is longer
        for table, columns in UIDS.items():
            for column in columns:
                op.alter_column(table, column, type_=sa.Text)


def _row(film_id: str, patient_id: str, accession: str, sop: str | None, study: str | None) -> dict[str, Any]:
    said = {
        "accession_number": accession,
        "patient_id": patient_id,
        "sop_instance_uid": sop,
        "study_instance_uid": study,
    }
    return {
        "film_id": film_id,
        "key_id": "",
        "sealed": json.dumps({name: value for name, value in said.items() if value}).encode(),
        "patient_index": _index("patient", patient_id),
        "accession_index": _index("accession", accession),
    }


def _index(kind: str, value: str) -> str:
    """As without a data key."""
    return hmac.new(b"", f"{kind}\0{value.strip()}".encode(), hashlib.sha256).hexdigest()[:32]


def downgrade() -> None:
    """Go back, as long as nothing is encrypted: what is can't be read without the key, and is lost."""
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT film_id, sealed FROM identifiers WHERE key_id = ''")).all()
    for name in ("erased_files", "data_keys", "identifiers"):
        op.drop_table(name)
    identifiers = op.create_table(
        "identifiers",
        sa.Column("film_id", sa.String(32), sa.ForeignKey("films.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("accession_number", sa.Text, nullable=False),
    )
    for film_id, sealed in rows:
        said = json.loads(bytes(sealed))
        plain = {name: said.get(name, "") for name in ("patient_id", "accession_number")}
        connection.execute(sa.insert(identifiers).values(film_id=film_id, **plain))
