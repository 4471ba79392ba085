"""Codes of what is sent back.

DCM is PS3.16 annex D, SCT is SNOMED CT, UCUM the units. What neither names has a code of our own in the private scheme
99HILUM, which every object that uses it declares (PS3.3 C.12.1.1.7).
"""

import re
from dataclasses import dataclass

PRIVATE_SCHEME = "99HILUM"
"""Designators that begin with 99 are private (PS3.16 section 8.2)."""

PRIVATE_SCHEME_NAME = "Codes of the hilum reading room"

CODE_VALUE_LENGTH = 16
"""VR SH: longer values go into Long Code Value."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept."""

    value: str
    """Code Value (0008,0100)."""
    scheme: str
    """Coding Scheme Designator (0008,0102)."""
    meaning: str
    """Code Meaning (0008,0104)."""


# SNOMED CT. 17621005 is in CID 7169 among others; the two diseases are in no context group of PS3.16.
FINDINGS = {
    "normal": Code("17621005", "SCT", "Normal"),
    "pneumonia": Code("233604007", "SCT", "Pneumonia"),
    "covid-19": Code("840539006", "SCT", "COVID-19"),
}

CHEST_FILM = Code("399208008", "SCT", "Plain chest X-ray")
PROBABILITY = Code("122157", "DCM", "Probability")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")  # CID 7464
NO_UNITS = Code("1", "UCUM", "no units")
COMMENT = Code("121106", "DCM", "Comment")
SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")  # CID 7551
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202

OPERATING_POINT = Code("operating-point", PRIVATE_SCHEME, "Probability beside the operating point")
REACHED = Code("reached", PRIVATE_SCHEME, "Reached")
NOT_REACHED = Code("not-reached", PRIVATE_SCHEME, "Not reached")
ANSWER = Code("answer", PRIVATE_SCHEME, "Answer of the model")
ABSTAINED = Code("abstained", PRIVATE_SCHEME, "No label: the model is in doubt")
DECISION = Code("reader-decision", PRIVATE_SCHEME, "Decision of the reader")
AGREED = Code("agreed", PRIVATE_SCHEME, "Agreed with the model")
OVERRIDDEN = Code("overridden", PRIVATE_SCHEME, "Overrode the model")

NEAR = {"–": "-", "—": "-", "−": "-", "’": "'", "“": '"', "”": '"', "≥": ">=", "≤": "<=", "×": "x", "…": "..."}


def finding_code(name: str) -> Code:
    """The code of a finding: SNOMED CT's where it is known, else our own.

    Args:
        name: as the model names it.
    """
    known = FINDINGS.get(name.lower())
    if known:
        return known
    value = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "finding"
    return Code(value[:64], PRIVATE_SCHEME, plain(name)[:64] or "Finding")


def plain(text: str) -> str:
    """Text in ASCII, which every character set of DICOM can hold; what has no ASCII form becomes a question mark."""
    for foreign, near in NEAR.items():
        text = text.replace(foreign, near)
    return re.sub(r"[^\x20-\x7e\n]", "?", text)
