"""Whose film is it? What a PACS is asked with, and whom its answers must be of.

A query in DICOM matches by wildcard, by list and, with an empty key, everything (PS3.4 C.2.2.2), and it has no way to
say that a character is meant as itself. A film's Patient ID comes from whoever sent the film. So an id that could be
read as anything but itself is not asked with, and each answer is compared again here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hilum.errors import FilmError

LONGEST_ID = 64
"""Characters of a value of LO (PS3.5 table 6.2-1)."""

NOT_LITERAL = frozenset("*?\\")
"""They stand for any characters, any one character, and the next value of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who a film or a study is of."""

    patient_id: str
    """Patient ID (0010,0020); its leading and trailing spaces mean nothing."""
    issuer: str = ""
    """Issuer of Patient ID (0010,0021); empty when it is not recorded."""
    birth_date: str = ""
    """Patient's Birth Date (0010,0030); empty when it is not recorded."""


class Ambiguous(FilmError):
    """A film that doesn't say whose it is well enough to ask for others of the same patient."""


One = TypeVar("One")


def asked_with(patient: Patient) -> str:
    """The Patient ID as a matching key that can be read as nothing but itself.

    Raises:
        Ambiguous: there is none.
    """
    wanted = patient.patient_id
    if not wanted:
        raise Ambiguous(
            "The film has no Patient ID, and a query without one would find everybody.", code="no-patient-id"
        )
    if NOT_LITERAL & set(wanted) or not wanted.isprintable() or len(wanted) > LONGEST_ID:
        raise Ambiguous(
            "The film's Patient ID has a wildcard, a list, a control character or more than 64 characters, so a query "
            "would not mean this patient alone. Correct it in the PACS.",
            code="no-exact-id",
        )
    return wanted


def same_patient(patient: Patient, answers: Sequence[tuple[Patient, One]]) -> list[One]:
    """What in a PACS's answers is certainly of this patient.

    Issuers are compared where they are recorded. A PACS that records none at all is taken at its word; one that
    records some is not where it records none, nor where the film doesn't say which of several issuers is meant.

    Args:
        patient: who is meant.
        answers: who each answer is of, and the answer.

    Raises:
        Ambiguous: the id is used by several issuers, and the film names none.
    """
    by_id = [(whose, one) for whose, one in answers if whose.patient_id == patient.patient_id]
    issuers = {whose.issuer for whose, _ in by_id}
    if not patient.issuer and len(issuers) > 1:
        raise Ambiguous(
            "Several issuers use the film's Patient ID, and the film does not say which of them is meant. Record the "
            "issuer (0010,0021) in films.",
            code="several-issuers",
        )
    if patient.issuer and issuers != {""}:
        by_id = [(whose, one) for whose, one in by_id if whose.issuer == patient.issuer]
    return [one for whose, one in by_id if not contradicts(patient, whose)]


def contradicts(patient: Patient, other: Patient) -> bool:
    """Do two records say of themselves that they are of different people? What is not recorded contradicts nothing."""
    pairs = ((patient.issuer, other.issuer), (patient.birth_date, other.birth_date))
    return patient.patient_id != other.patient_id or any(a and b and a != b for a, b in pairs)


def patient_of(dataset: Any) -> Patient:
    """Who a data set is of."""
    return Patient(
        patient_id=text_of(dataset, "PatientID"),
        issuer=text_of(dataset, "IssuerOfPatientID"),
        birth_date=text_of(dataset, "PatientBirthDate"),
    )


def text_of(dataset: Any, keyword: str) -> str:
    """An element's value as text without its padding; empty where there is none that can be read."""
    try:
        value = dataset.get(keyword)
    except Exception:  # what a peer sent as a value of this kind
        return ""
    if value is None:
        return ""
    several = hasattr(value, "__iter__") and not isinstance(value, str)
    return "\\".join(str(one).strip(" \0") for one in (value if several else (value,)))
