"""A film with another canary in every attribute that may hold text, and who finds them in what comes out."""

import io
import re
from datetime import date, timedelta

import pydicom
from pydicom.datadict import DicomDictionary, keyword_for_tag, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian
from tests.imaging.test_deidentification import element, item
from tests.inference.films import film as plain_film

from hilum.service.dicom.source_film import encode_elements

FILMS = "ABCDEFGH"
"""Each film has canaries of its own."""

TEXTS = ("AE", "AS", "CS", "DA", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
FIRST_DAY = date(1701, 1, 1)
OTHERS = {0x00091001: "LO", 0x0029100C: "UT", 0x60000022: "LO", 0x60001500: "LO"}
"""Private attributes, and such as the dictionary has by a pattern."""

AGE = 0x00101010
KEPT = ("PhotometricInterpretation", "SpecificCharacterSet")
"""Without these a film can't be read; the second one has a canary where a test asks for one."""


def _dictionary() -> dict[int, str]:
    known = {tag: vr.split(" or ")[0] for tag, (vr, *_) in DicomDictionary.items() if 0x00080000 <= tag < 0x7FE00000}
    # An age has no room for more than a film's own letter, so there is one age alone.
    return {tag: vr for tag, vr in {**known, **OTHERS}.items() if vr in (*TEXTS, "SQ") and (vr != "AS" or tag == AGE)}


TAGS = _dictionary()
DAYS = [tag for tag, vr in TAGS.items() if vr == "DA"]
TIMES = [tag for tag, vr in TAGS.items() if vr == "TM"]


def canary(film: str, keyword: str) -> str:
    """What an attribute of a film holds."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return _value(film, tag, TAGS[tag])


def _value(film: str, tag: int, vr: str) -> str:
    number = FILMS.index(film)
    if vr == "UI":
        return f"2.25.97{number}{tag:010d}"
    if vr == "AS":
        return f"{41 + number:03d}Y"
    if vr == "DA":
        return f"{FIRST_DAY + timedelta(days=len(FILMS) * DAYS.index(tag) + number):%Y%m%d}"
    if vr == "TM":
        return f"2359{number:02d}.7{TIMES.index(tag):03d}{number:02d}"
    return f"QANARY{film}{tag:08X}"


def canary_film(film: str, **real: str | None) -> bytes:
    """A film with canaries in every attribute, and in an item of every sequence.

    Args:
        film: one of `FILMS`.
        real: by keyword, what an attribute holds instead; None for nothing.
    """
    source = pydicom.dcmread(io.BytesIO(plain_film(FILMS.index(film))))
    parts = encode_elements(source, [tag for tag in source.keys()])  # noqa: SIM118, C416 - a Dataset
    for tag, vr in TAGS.items():
        keyword = keyword_for_tag(tag)
        if keyword in KEPT and keyword not in real:
            continue
        if keyword in real:
            parts.pop(tag, None)
            if real[keyword] is not None:
                parts[tag] = element(tag, vr, str(real[keyword]).encode())
            continue
        if vr == "SQ":
            inside = f"QANARY{film}{tag:08X}".encode()
            parts[tag] = element(
                tag,
                vr,
                item(
                    element(0x00080100, "SH", inside),
                    element(0x00080102, "SH", inside),
                    element(0x00080104, "LO", inside),
                    element(0x00100010, "PN", inside),
                    element(0x00100020, "LO", inside),
                ),
            )
        else:
            value = _value(film, tag, vr).encode()
            parts[tag] = element(tag, vr, value + b"\0" * (len(value) % 2 if vr == "UI" else 0))
    head = FileMetaDataset()
    head.MediaStorageSOPClassUID = source.SOPClassUID
    head.MediaStorageSOPInstanceUID = real.get("SOPInstanceUID") or canary(film, "SOPInstanceUID")
    head.TransferSyntaxUID = real.get("TransferSyntaxUID") or ExplicitVRLittleEndian
    head.SourceApplicationEntityTitle = f"QANARY{film}00020016"
    out = io.BytesIO()
    write_file_meta_info(DicomFileLike(out), head, enforce_standard=True)
    preamble = f"QANARY{film}00000000".encode().ljust(128, b"\0")
    return preamble + b"DICM" + out.getvalue() + b"".join(parts[tag] for tag in sorted(parts))


_TEXT = re.compile(rb"QANARY([A-H])([0-9A-F]{8})", re.IGNORECASE)
_UID = re.compile(rb"2\.25\.97(\d)(\d{10})")
_AGE = re.compile(rb"(?<![0-9A-Za-z])0(4[1-8])Y(?![0-9a-f]{2})")
_DAY = re.compile(rb"(?<![0-9a-f.])(170\d)-?(\d\d)-?(\d\d)(?![0-9a-f]{2})")
_TIME = re.compile(rb"23:?59:?\d\d\.7(\d{3})(\d\d)")


def found(content: bytes) -> dict[str, set[str]]:
    """Canaries in some bytes: of which films (letters), by attribute (keyword, or tag where it has none)."""
    there: dict[str, set[str]] = {}

    def note(number: int, tag: int) -> None:
        there.setdefault(keyword_for_tag(tag) or f"{tag:08X}", set()).add(FILMS[number])

    for film, tag in _TEXT.findall(content):
        note(FILMS.index(film.decode().upper()), int(tag, 16))
    for number, tag in _UID.findall(content):
        note(int(number), int(tag))
    for age in _AGE.findall(content):
        note(int(age) - 41, AGE)
    for year, month, day in _DAY.findall(content):
        try:
            days = (date(int(year), int(month), int(day)) - FIRST_DAY).days
        except ValueError:
            continue
        if days // len(FILMS) < len(DAYS):
            note(days % len(FILMS), DAYS[days // len(FILMS)])
    for index, number in _TIME.findall(content):
        if int(index) < len(TIMES) and int(number) < len(FILMS):
            note(int(number), TIMES[int(index)])
    return there
