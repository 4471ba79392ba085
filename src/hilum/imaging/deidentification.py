"""De-identification of one film by PS3.15 annex E, the Basic Application Level Confidentiality Profile, and beyond it.

The film that is written is built anew from a closed list of attributes (:mod:`hilum.imaging.kept_attributes`), so what
nobody thought of can't slip through: preamble, File Meta Information, private attributes, overlays, curves, comments in
compressed pixels, bits above Bits Stored and bytes behind the pixels are not carried over but never written.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.errors import FilmError
from hilum.imaging.burnt_in_text import TextLine, find_text
from hilum.imaging.codecs import CODECS, SampleFormat, decode_frame, native_samples
from hilum.imaging.confidentiality_table import action_of
from hilum.imaging.dicom_facts import GREY, text
from hilum.imaging.dicom_reading import is_dicom, sample_format
from hilum.imaging.dicom_structure import Structure, examine
from hilum.imaging.kept_attributes import (
    CODED,
    CODES,
    DATES,
    EMPTIED,
    INSIDE,
    NUMBERS,
    SEQUENCES,
    SOP_CLASSES,
    TERMS,
    UIDS,
    check,
)
from hilum.imaging.limits import Limits
from hilum.imaging.pseudonyms import Pseudonyms

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
IMPLEMENTATION_CLASS_UID = "2.25.264911737201870532921839437261528830927"

NOT_DICOM = "The file is no DICOM file. Only DICOM films can be de-identified."
LUT_DATA = 0x00283006

# PS3.16 CID 7050.
METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A rectangle of pixels that is blackened."""

    top: int
    """First row, from 0."""
    left: int
    """First column, from 0."""
    height: int
    """Rows."""
    width: int
    """Columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is kept beside what always is."""

    masks: tuple[Mask, ...] = ()
    """Where text is burnt in; the same rectangles in every film."""
    find_text: bool = False
    """Look for burnt-in text, blacken what is sure, and say where a person should look."""
    shift_dates: bool = False
    """Move a patient's dates back by as many days as the key says, instead of emptying them."""
    keep_patient: bool = False
    """Keep sex and age (above 89 years as 90)."""
    keep_manufacturer: bool = False
    """Keep manufacturer and model, which are free text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of one attribute."""

    tag: str
    """``(gggg,eeee)``."""
    keyword: str
    """Its keyword; empty for a private or unknown one."""
    profile: str
    """The profile's action; empty where it names none."""
    fate: str
    """``kept``, ``replaced``, ``emptied``, ``shifted``, ``removed`` or ``value not allowed``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deidentified:
    """A film that names nobody."""

    content: bytes
    """A Part 10 file in Explicit VR Little Endian."""
    patient: str
    """The patient's pseudonym."""
    sop_instance_uid: str
    """The film's new UID."""
    burned_in: str
    """What the film said of burnt-in text: ``YES``, ``NO`` or empty."""
    fates: tuple[Fate, ...]
    """Of every attribute at the top level, and of those inside sequences that were gone through."""
    unmasked: bool = False
    """True when nothing of its pixels was blackened."""
    text: tuple[TextLine, ...] = ()
    """Lines that look like burnt-in text: the sure ones are blackened, the others left to a person."""


def deidentify(content: bytes, key: bytes, policy: Policy) -> Deidentified:
    """De-identify one film.

    Args:
        content: a DICOM file.
        key: of the pseudonyms.
        policy: what is kept.

    Raises:
        FilmError: it is no grey radiograph that can be read (codes as `read_film`, ``colour``, ``not-dicom``,
            ``sop-class``), ``burned-in`` when it says that text is burnt in, which is neither masked nor looked for,
            ``mask`` when a mask lies outside of it, ``lut`` when its look-up table is damaged, ``no-identity`` when
            it lacks a UID.
        UsageError: the key is no key.
    """
    pseudonyms, limits = Pseudonyms(key), Limits()
    if not is_dicom(content[:132]):
        raise FilmError(NOT_DICOM, code="not-dicom")
    limits.check_file(len(content))
    structure = examine(content, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        try:
            return _deidentified(content, structure, pseudonyms, policy, limits)
        except (FilmError, MemoryError):
            raise
        except Exception as error:
            raise FilmError(
                f"The DICOM file is damaged and can't be de-identified ({type(error).__name__}).", code="unreadable"
            ) from None


def _deidentified(
    content: bytes, structure: Structure, pseudonyms: Pseudonyms, policy: Policy, limits: Limits
) -> Deidentified:
    from pydicom import dcmread

    film = dcmread(io.BytesIO(content))
    burned_in = (text(film, "BurnedInAnnotation") or "").upper()
    _check_film(film, burned_in, policy)
    form = sample_format(film, structure, limits)
    if form.photometric not in GREY:
        raise FilmError(
            f"The film is a picture in colour ({form.photometric}); only grey ones can be de-identified.", code="colour"
        )
    codes = _stored(film, structure, form)
    lines = find_text(codes) if policy.find_text else ()
    found = tuple(Mask(top=one.top, left=one.left, height=one.height, width=one.width) for one in lines if one.sure)
    codes = _masked(codes, form, (*policy.masks, *found))
    identity = _identity(film)
    # What says that a film was masked counts the rectangles that were found as those that were given.
    work = _Work(film, pseudonyms, replace(policy, masks=(*policy.masks, *found)), identity)
    made = work.header()
    made.HighBit = form.stored - 1
    made.add_new(0x7FE00010, "OB" if form.allocated == 8 else "OW", codes.tobytes() + b"\0" * (codes.nbytes % 2))
    patient = pseudonyms.patient(identity)
    return Deidentified(
        content=_part10(made),
        patient=patient,
        sop_instance_uid=str(made.SOPInstanceUID),
        burned_in=burned_in,
        fates=tuple(work.fates),
        unmasked=not policy.masks and not found,
        text=lines,
    )


def _check_film(film: Any, burned_in: str, policy: Policy) -> None:
    if str(film.get("SOPClassUID", "")) not in SOP_CLASSES:
        raise FilmError(
            "The object is no CR, DX or Secondary Capture image; only these can be de-identified.", code="sop-class"
        )
    missing = [keyword for keyword in UIDS if not str(film.get(keyword) or "").strip()]
    if missing:
        raise FilmError(f"The film has no {missing[0]}, so no pseudonym can be made.", code="no-identity")
    if burned_in == "YES" and not policy.masks and not policy.find_text:
        raise FilmError(
            "The film says that text is burnt into its pixels. Give where with --mask, have it looked for with "
            "--find-text, or leave the film out.",
            code="burned-in",
        )


def _identity(film: Any) -> str:
    """What tells patients apart: the id with its issuer, else name and birth date, else the study."""
    number = str(film.get("PatientID") or "").strip()
    if number:
        return f"id\0{str(film.get('IssuerOfPatientID') or '').strip()}\0{number}"
    name = str(film.get("PatientName") or "").strip(" ^=")
    if name:
        return f"name\0{name.upper()}\0{str(film.get('PatientBirthDate') or '').strip()}"
    return f"study\0{str(film.StudyInstanceUID).strip()}"


class _Work:
    """One header on its way."""

    def __init__(self, film: Any, pseudonyms: Pseudonyms, policy: Policy, identity: str) -> None:
        self.film, self.pseudonyms, self.policy, self.identity = film, pseudonyms, policy, identity
        self.fates: list[Fate] = []
        self.inside = False

    def header(self) -> Any:
        """The new header, without pixels."""
        from pydicom.dataset import Dataset

        made = Dataset()
        made.SOPClassUID = str(self.film.SOPClassUID)
        for keyword in EMPTIED:
            setattr(made, keyword, None)
        for tag in self.film.keys():  # noqa: SIM118 - iterating over a Dataset decodes every element
            self._element(made, int(tag))
        pseudonym = self.pseudonyms.patient(self.identity)
        made.PatientName, made.PatientID = pseudonym, pseudonym
        self._mark(made)
        return made

    def _element(self, made: Any, tag: int) -> None:
        from pydicom.datadict import keyword_for_tag

        keyword = "" if tag >> 16 & 1 else keyword_for_tag(tag)
        fate = self._fate(made, tag, keyword)
        self.fates.append(
            Fate(
                tag=f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
                keyword=keyword,
                profile=action_of(tag) or "",
                fate=fate,
            )
        )

    def _fate(self, made: Any, tag: int, keyword: str) -> str:
        if self.inside:
            return self._value(made, tag, keyword)
        if keyword in ("PatientName", "PatientID"):
            return "replaced"
        if keyword in UIDS:
            setattr(made, keyword, self.pseudonyms.uid(str(self.film[tag].value).strip()))
            return "replaced"
        if keyword in ("SOPClassUID", "PixelData"):
            return "kept"
        if keyword in DATES and self.policy.shift_dates:
            return self._shift(made, tag, keyword)
        if keyword in CODED:
            return self._coded(made, tag, keyword)
        if keyword in SEQUENCES:
            return self._sequence(made, tag, keyword)
        return self._value(made, tag, keyword)

    def _value(self, made: Any, tag: int, keyword: str) -> str:
        if not self._kept(keyword) or (keyword in INSIDE) != self.inside:
            return "emptied" if keyword in EMPTIED else "removed"
        try:
            value = self.film[tag].value
        except Exception:  # whatever pydicom raises on a value that is none of its kind
            return "value not allowed"
        if value is None or (hasattr(value, "__len__") and len(value) == 0):
            _put(made, tag, None)
            return "kept"
        if keyword in ("Manufacturer", "ManufacturerModelName"):
            setattr(made, keyword, str(value).encode("ascii", "replace").decode()[:64])
            return "kept"
        checked = check(keyword, value)
        if checked is None:
            return "value not allowed"
        _put(made, tag, checked.value)
        return "kept" if checked.whole else "value not allowed"

    def _kept(self, keyword: str) -> bool:
        if keyword in ("PatientSex", "PatientAge"):
            return self.policy.keep_patient
        if keyword in ("Manufacturer", "ManufacturerModelName"):
            return self.policy.keep_manufacturer
        return keyword in NUMBERS or keyword in TERMS or keyword == "PatientOrientation"

    def _shift(self, made: Any, tag: int, keyword: str) -> str:
        digits = str(self.film[tag].value or "").strip().replace(".", "").replace("-", "")
        try:
            day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
            moved = day - timedelta(days=self.pseudonyms.days(self.identity))
        except (ValueError, OverflowError):
            return "emptied" if keyword in EMPTIED else "removed"
        setattr(made, keyword, f"{moved:%Y%m%d}".rjust(8, "0"))
        return "shifted"

    def _coded(self, made: Any, tag: int, keyword: str) -> str:
        from pydicom.dataset import Dataset

        items = []
        for one in self.film[tag].value:
            code = str(one.get("CodeValue") or "").strip(), str(one.get("CodingSchemeDesignator") or "").strip()
            if code in CODES:
                item = Dataset()
                item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = *code, CODES[code]
                items.append(item)
        setattr(made, keyword, items)
        return "kept" if len(items) == len(self.film[tag].value) else "value not allowed"

    def _sequence(self, made: Any, tag: int, keyword: str) -> str:
        from pydicom.dataset import Dataset

        items = []
        for one in self.film[tag].value:
            inner, outer = Dataset(), self.film
            self.film, self.inside = one, True
            try:
                for nested in one.keys():  # noqa: SIM118
                    self._element(inner, int(nested))
            finally:
                self.film, self.inside = outer, False
            if not _is_lut(inner):
                raise FilmError(
                    "The film's look-up table is damaged, and without it the film would look different.", code="lut"
                )
            items.append(inner)
        setattr(made, keyword, items)
        return "kept"

    def _mark(self, made: Any) -> None:
        """Say what was done (PS3.3 C.7.1.1 and C.12.1)."""
        from pydicom.dataset import Dataset

        codes = ["113100"]
        codes += ["113101"] if self.policy.masks else []
        codes += ["113107"] if self.policy.shift_dates else []
        codes += ["113108"] if self.policy.keep_patient else []
        made.PatientIdentityRemoved = "YES"
        made.DeidentificationMethod = "hilum: closed list of attributes, keyed pseudonyms"
        made.DeidentificationMethodCodeSequence = items = []
        for code in codes:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", METHODS[code]
            items.append(item)
        made.DeidentificationMethodCodeSequence = items
        made.LongitudinalTemporalInformationModified = "MODIFIED" if self.policy.shift_dates else "REMOVED"
        if self.policy.masks and made.get("BurnedInAnnotation") == "YES":
            made.BurnedInAnnotation = "NO"


def _is_lut(item: Any) -> bool:
    """Whether an item holds as many entries as it says (PS3.3 C.11.1.1); 8-bit ones may lie two in a word."""
    descriptor = item.get("LUTDescriptor")
    if descriptor is None or len(descriptor) != 3 or "LUTData" not in item:
        return False
    entries = int(descriptor[0]) or 1 << 16
    return len(item.LUTData) // 2 in (entries, (entries + 1) // 2)


def _put(made: Any, tag: int, value: Any) -> None:
    """Write a value with the dictionary's value representation, whatever the film gave for one."""
    from pydicom.datadict import dictionary_VR

    vr = dictionary_VR(tag)
    if value is not None and vr[:2] in ("US", "SS", "UL", "SL", "FD", "FL"):
        several = value if isinstance(value, list) else [value]
        numbers = [float(one) if vr in ("FD", "FL") else int(float(one)) for one in several]
        value = numbers if isinstance(value, list) else numbers[0]
    if vr.startswith("US or"):
        several = value if isinstance(value, list) else [0 if value is None else value]
        vr = "SS" if min(several) < 0 else "US"
        if tag == LUT_DATA:  # too long for US
            vr, value = "OW", np.array(several, np.int64).astype("<u2").tobytes()
    made.add_new(tag, vr, value)


def _stored(film: Any, structure: Structure, form: SampleFormat) -> Array:
    """Stored values [h, w] without what may hide in unused bits, in the container that the header names."""
    element = film["PixelData"]
    syntax = structure.transfer_syntax
    if syntax not in CODECS:
        raise FilmError(f"Transfer syntax {syntax!r} can't be read.", code="unsupported-syntax")
    if CODECS[syntax].decode is None:
        codes = native_samples(element.value, form, big_endian=syntax == BIG_ENDIAN, words=element.VR == "OW")
    else:
        from pydicom.encaps import get_frame

        codes = decode_frame(get_frame(element.value, 0, number_of_frames=1), syntax, form)
    shift = form.high_bit + 1 - form.stored
    if not 0 <= shift <= form.allocated - form.stored:
        raise FilmError(
            f"High Bit is {form.high_bit} with {form.stored} bits stored, which can't be.", code="unreadable"
        )
    values = codes.astype(np.int64) >> shift & (1 << form.stored) - 1
    if form.signed:
        values = np.where(values >= 1 << (form.stored - 1), values - (1 << form.stored), values)
    stored: Array = values.astype(f"<{'i' if form.signed else 'u'}{form.allocated // 8}")
    return stored


def _masked(codes: Array, form: SampleFormat, masks: Sequence[Mask]) -> Array:
    low, high = (
        (-(1 << (form.stored - 1)), (1 << (form.stored - 1)) - 1) if form.signed else (0, (1 << form.stored) - 1)
    )
    black = low if form.photometric == "MONOCHROME2" else high
    for mask in masks:
        if mask.top >= form.rows or mask.left >= form.columns:
            raise FilmError(
                f"A mask begins at row {mask.top}, column {mask.left}, outside the film's {form.rows} × {form.columns} "
                "pixels. Give films of different sizes masks of their own.",
                code="mask",
            )
        codes[mask.top : mask.top + mask.height, mask.left : mask.left + mask.width] = black
    return codes


def _part10(made: Any) -> bytes:
    from pydicom.dataset import FileMetaDataset

    meta: Any = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = EXPLICIT_LITTLE_ENDIAN
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_CLASS_UID, "HILUM"
    made.file_meta = meta
    buffer = io.BytesIO()
    made.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()
