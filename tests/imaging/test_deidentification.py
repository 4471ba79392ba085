"""Films without names: no canary comes out, pixels stay, pseudonyms hold together."""

import io
import json
import struct
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import FilmError, UsageError
from hilum.imaging.confidentiality_table import BASIC_PROFILE, action_of
from hilum.imaging.deidentification import Mask, Policy, deidentify
from hilum.imaging.deidentifying import deidentify_folder
from hilum.imaging.dicom_structure import LONG_VRS
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.kept_attributes import CODED, DATES, NUMBERS, SEQUENCES, TERMS, UIDS
from hilum.imaging.pseudonyms import Pseudonyms
from hilum.imaging.reading import read_facts, read_film

KEY = bytes(range(32))
NAME = "Zörbel-Qanary^Ünika"
PARTS = ("rbel-Qanary", "QANARY", "nika")
SYNTAXES = ("explicit-le", "implicit-le", "explicit-be", "deflated", "rle", "jpeg-ls", "jpeg2000-lossless")
NEEDED = (
    "Rows Columns BitsAllocated BitsStored HighBit NumberOfFrames PixelRepresentation PhotometricInterpretation "
    "SamplesPerPixel BurnedInAnnotation SpecificCharacterSet"
)
NOT_OURS = frozenset(tag_for_keyword(name) for name in (*UIDS, "SOPClassUID", "PixelData", "TransferSyntaxUID"))


def pixels(shape: tuple[int, int] = (40, 36), bits: int = 12) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 1 << bits, shape, np.uint16)


def film(**header: Any) -> bytes:
    """A synthetic DX film."""
    values: dict[str, Any] = {
        "patient_id": "4711",
        "patient_name": NAME,
        "sex": "F",
        "age_years": 95.0,
        "birth_date": "19310203",
        "accession_number": "A-17",
        "study_date": "20261101",
        "study_time": "101112",
        "manufacturer": "Acme",
        "device": "X-9",
        "institution": "St. Qanary",
    }
    syntax = header.pop("transfer_syntax", "explicit-le")
    return film_bytes(pixels(), FilmHeader(**{**values, **header}), transfer_syntax=syntax)[0]


def read(content: bytes) -> Any:
    return pydicom.dcmread(io.BytesIO(content))


def clean(content: bytes, **policy: Any) -> Any:
    return read(deidentify(content, KEY, Policy(**policy)).content)


def element(tag: int, vr: str, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr.encode() in LONG_VRS:
        return start + struct.pack("<HL", 0, len(value)) + value
    return start + struct.pack("<H", len(value)) + value


def item(*elements: bytes) -> bytes:
    content = b"".join(elements)
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def spoiled() -> bytes:
    """A film with a name in every attribute that the dictionary knows and that is not needed to read the pixels."""
    name = NAME.encode()
    needed = {tag_for_keyword(keyword) for keyword in NEEDED.split()} | NOT_OURS
    inside = item(element(0x00100010, "PN", name), element(0x00091001, "LO", name), element(0x00400031, "UT", name))
    parts = {0x00080005: element(0x00080005, "CS", b"ISO_IR 192")}
    for tag, (vr, *_) in DicomDictionary.items():
        if tag < 0x00080000 or tag in needed or tag >> 16 in (0x7FE0, 0xFFFE):
            continue
        vr = vr.split(" or ")[0]
        nested = inside + item(element(0x00081115, "SQ", inside)) if vr == "SQ" else name
        if tag in (tag_for_keyword("ModalityLUTSequence"), tag_for_keyword("VOILUTSequence")):
            nested = item(
                element(0x00283002, "US", struct.pack("<3H", 4, 0, 16)),
                element(0x00283003, "LO", name),
                element(0x00283004, "LO", name),
                element(0x00283006, "US", struct.pack("<4H", 1, 2, 3, 4)),
            )
        if tag == tag_for_keyword("ViewCodeSequence"):
            nested = item(
                element(0x00080100, "SH", b"399348003"),
                element(0x00080102, "SH", b"SCT"),
                element(0x00080104, "LO", name),
            )
        parts[tag] = element(tag, vr, nested)
    source = read(film())
    for tag in needed & set(source.keys()) - {0x00080005}:
        vr, value = dictionary_VR(tag), source[tag].value
        coded = struct.pack("<H", value) if vr == "US" else str(value).encode()
        if tag != 0x7FE00010:
            parts[tag] = element(tag, vr, coded)
    for private in (0x00090010, 0x00091001, 0x0029100C, 0x60010010):
        parts[private] = element(private, "LO", name)
    parts[0x60003000] = element(0x60003000, "OW", name.ljust(60))
    stored = pixels() | 0xA000  # Bits above Bits Stored
    parts[0x7FE00010] = element(0x7FE00010, "OW", stored.tobytes() + name * 3)  # and bytes behind the pixels
    parts[0xFFFCFFFC] = element(0xFFFCFFFC, "OB", name)
    meta = element(0x00020002, "UI", str(source.SOPClassUID).encode())
    meta += element(0x00020003, "UI", name[:60]) + element(0x00020010, "UI", b"1.2.840.10008.1.2.1\0")
    meta += element(0x00020016, "AE", name[:16]) + element(0x00020100, "UI", b"1.2.3") + element(0x00020102, "OB", name)
    preamble = (name * 8)[:128]
    return preamble + b"DICM" + meta + b"".join(parts[tag] for tag in sorted(parts))


def leaks(content: bytes) -> list[str]:
    """Parts of the name that bytes hold, in any encoding and case."""
    lower = content.lower()
    found = []
    for part in (*PARTS, *NAME.split("^")):
        for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "cp437"):
            if part.lower().encode(encoding) in lower or part.encode(encoding).lower() in lower:
                found.append(f"{part} in {encoding}")
    return found


def test_no_canary_comes_out() -> None:
    source = spoiled()
    assert len(leaks(source)) > 5
    for policy in (Policy(), Policy(shift_dates=True, keep_patient=True)):
        made = deidentify(source, KEY, policy)
        assert leaks(made.content) == []
        assert leaks(json.dumps([fate.__class__.__name__ + str(fate) for fate in made.fates]).encode()) == []
        assert made.content[:128] == bytes(128)
        assert read(made.content).PixelData == pixels().tobytes(), "neither unused bits nor bytes behind the pixels"
        assert len(made.fates) > 4000
        tags = {tag.tag: tag.fate for tag in made.fates}
        assert (tags["(0009,1001)"], tags["(0010,0010)"], tags["(0028,1050)"]) == (
            "removed",
            "replaced",
            "value not allowed",
        )


def test_a_name_in_compressed_pixels_goes_with_the_codestream() -> None:
    eight = np.random.default_rng(3).integers(0, 256, (16, 16), np.uint8)
    content = film_bytes(eight, FilmHeader(patient_id="1", bits_stored=8), transfer_syntax="jpeg")[0]
    dataset = read(content)
    frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(NAME.encode())) + NAME.encode()
    dataset.PixelData = pydicom.encaps.encapsulate([frame[:2] + comment + frame[2:]])
    out = io.BytesIO()
    dataset.save_as(out)
    assert leaks(out.getvalue())
    made = clean(out.getvalue())
    assert leaks(deidentify(out.getvalue(), KEY, Policy()).content) == []
    assert (made.pixel_array == read(content).pixel_array).all()
    assert (made.LossyImageCompression, made.file_meta.TransferSyntaxUID) == ("01", "1.2.840.10008.1.2.1")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_film_looks_the_same(syntax: str) -> None:
    source = film(transfer_syntax=syntax, window=(2000.0, 3000.0), photometric="MONOCHROME1")
    made = deidentify(source, KEY, Policy()).content
    before, after = read_film(source), read_film(made)
    assert (before.pixels == after.pixels).all()
    assert after.flags == ()
    for fact in (
        "modality",
        "presentation_intent",
        "body_part",
        "view_position",
        "photometric",
        "bits_stored",
        "spacing_mm",
    ):
        assert getattr(after.facts, fact) == getattr(before.facts, fact)
    assert (after.facts.age_years, after.facts.sex, after.facts.manufacturer, after.facts.acquired) == (None,) * 4


def test_signed_pixels_with_a_high_bit_above_the_stored_ones() -> None:
    dataset = read(film())
    values = np.arange(-720, 720, dtype=np.int16).reshape(40, 36)
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 12, 15
    dataset.PixelData = ((values.astype(np.int32) << 4 & 0xFFFF) | 0x5).astype("<u2").tobytes()
    out = io.BytesIO()
    dataset.save_as(out)
    made = clean(out.getvalue())
    assert (made.HighBit, made.BitsStored) == (11, 12)
    assert (np.frombuffer(made.PixelData, "<i2").reshape(40, 36) == values).all()


@pytest.mark.parametrize(("photometric", "black"), [("MONOCHROME2", 0), ("MONOCHROME1", 4095)])
def test_masked_pixels_are_black_and_the_others_stay(photometric: str, black: int) -> None:
    source = film(burned_in="YES", photometric=photometric)
    with pytest.raises(FilmError, match="text is burnt into its pixels. Give where with --mask") as refused:
        deidentify(source, KEY, Policy())
    assert refused.value.code == "burned-in"
    made = clean(source, masks=(Mask(top=2, left=20, height=3, width=99),))
    expected = pixels()
    expected[2:5, 20:] = black
    assert (made.pixel_array == expected).all()
    assert made.BurnedInAnnotation == "NO"
    assert [one.CodeValue for one in made.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    with pytest.raises(FilmError, match="outside the film's 40 × 36 pixels"):
        deidentify(source, KEY, Policy(masks=(Mask(top=40, left=0, height=1, width=1),)))


def test_a_patient_and_a_study_stay_together_under_one_key() -> None:
    one, two = clean(film(instance_number=1)), clean(film(instance_number=2, accession_number="other"))
    other = clean(film(patient_id="4712"))
    assert (one.PatientID, one.StudyInstanceUID) == (two.PatientID, two.StudyInstanceUID)
    assert one.PatientName == one.PatientID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    assert other.PatientID != one.PatientID
    source = read(film())
    assert not {source.SOPInstanceUID, source.StudyInstanceUID, source.SeriesInstanceUID} & {
        one.SOPInstanceUID,
        one.StudyInstanceUID,
        one.SeriesInstanceUID,
    }
    elsewhere = read(deidentify(film(instance_number=1), bytes(range(1, 33)), Policy()).content)
    assert elsewhere.PatientID != one.PatientID
    assert elsewhere.StudyInstanceUID != one.StudyInstanceUID
    assert deidentify(film(), KEY, Policy()) == deidentify(film(), KEY, Policy())


def test_without_a_number_name_and_birth_date_tell_patients_apart_and_else_the_study() -> None:
    by_name = [clean(film(patient_id="", study_date=day)) for day in ("20260101", "20260202")]
    assert by_name[0].PatientID == by_name[1].PatientID != clean(film(patient_id="", birth_date="20000101")).PatientID
    by_study = [clean(film(patient_id="", patient_name="^", study_date=day)) for day in ("20260101", "20260202")]
    assert by_study[0].PatientID != by_study[1].PatientID


def test_dates_go_or_move_by_a_patients_own_days() -> None:
    gone = clean(film())
    assert (gone.StudyDate, gone.StudyTime, "SeriesDate" in gone) == ("", "", False)
    assert gone.LongitudinalTemporalInformationModified == "REMOVED"
    first, later = (clean(film(study_date=day), shift_dates=True) for day in ("20260301", "20260401"))
    days = [date.fromisoformat(str(one.StudyDate)) for one in (first, later)]
    assert (days[1] - days[0]).days == 31
    moved = (date(2026, 3, 1) - days[0]).days
    assert 1 <= moved <= 3650
    assert first.SeriesDate == first.StudyDate
    assert (first.PatientBirthDate, first.StudyTime, first.LongitudinalTemporalInformationModified) == (
        "",
        "",
        "MODIFIED",
    )
    assert [one.CodeValue for one in first.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert moved != Pseudonyms(KEY).days("id\0\0another")
    odd = film().replace(b"20261101", b"2026ABCD")
    assert clean(odd, shift_dates=True).StudyDate == ""


def test_what_is_kept_beside_the_rest_only_when_asked() -> None:
    made = clean(film())
    assert (made.PatientSex, "PatientAge" in made, made.Manufacturer, "ManufacturerModelName" in made) == (
        "",
        False,
        "",
        False,
    )
    asked = clean(film(), keep_patient=True, keep_manufacturer=True)
    assert (asked.PatientSex, asked.PatientAge, asked.Manufacturer, asked.ManufacturerModelName) == (
        "F",
        "090Y",
        "Acme",
        "X-9",
    )
    assert (made.PatientIdentityRemoved, "InstitutionName" in made, made.AccessionNumber) == ("YES", False, "")
    assert clean(film(age_years=40.0), keep_patient=True).PatientAge == "040Y"


def test_every_attribute_has_its_fate() -> None:
    made = deidentify(film(), KEY, Policy())
    fates = {fate.keyword: (fate.profile, fate.fate) for fate in made.fates}
    assert fates["PatientName"] == ("Z", "replaced")
    assert fates["InstitutionName"] == ("X/Z/D", "removed")
    assert fates["AccessionNumber"] == ("Z", "emptied")
    assert fates["ViewPosition"] == ("", "kept")
    assert fates["ManufacturerModelName"] == ("", "removed")
    assert set(fates) == {element.keyword for element in read(film())}


def test_nothing_that_the_profile_names_is_kept_by_default() -> None:
    kept = {*NUMBERS, *TERMS, *SEQUENCES, *CODED}
    assert {name for name in kept if action_of(tag_for_keyword(name) or 0)} == set()
    assert {action_of(tag_for_keyword(name) or 0) for name in UIDS} == {"U"}
    assert all("Z" in (action_of(tag_for_keyword(name) or 0) or "") or name == "SeriesDate" for name in DATES)
    assert (action_of(0x00091001), action_of(0x60003000), action_of(0x50000010)) == ("X", "X", "X")
    assert len(BASIC_PROFILE) > 600


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "sop-class"),
        ({"StudyInstanceUID": ""}, "no-identity"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour"),
        ({"BitsStored": 99}, "unreadable"),
        ({"VOILUTSequence": [pydicom.Dataset()]}, "lut"),
    ],
)
def test_what_can_not_be_de_identified_is_refused(change: dict[str, Any], code: str) -> None:
    dataset = read(film())
    for name, value in change.items():
        setattr(dataset, name, value)
    if code == "colour":
        dataset.PixelData = bytes(3 * 2 * 1440)
    out = io.BytesIO()
    dataset.save_as(out)
    with pytest.raises(FilmError) as refused:
        deidentify(out.getvalue(), KEY, Policy())
    assert refused.value.code == code
    assert leaks(str(refused.value).encode()) == []


def test_a_weak_key_is_refused() -> None:
    for key in (b"short", bytes(64), b"ab" * 40):
        with pytest.raises(UsageError, match="32 random bytes are needed"):
            deidentify(film(), key, Policy())
    assert Pseudonyms(KEY).key_id != Pseudonyms(bytes(range(1, 33))).key_id


def hilum(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["data", "deidentify", *map(str, arguments), "--quiet"])


def test_the_command_writes_films_and_a_report_that_names_nobody(tmp_path: Path) -> None:
    source, key = tmp_path / "Qanary" / "in", tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    (source / "sub").mkdir(parents=True)
    (source / "a.dcm").write_bytes(film(instance_number=1))
    (source / "sub" / "b.dcm").write_bytes(film(instance_number=2))
    (source / "sub" / "copy.dcm").write_bytes(film(instance_number=2))
    (source / "c.dcm").write_bytes(film(patient_id="other", burned_in="YES"))
    (source / "notes.txt").write_text("no film")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    done = hilum(source, out, "--key", key, "--workers", 1, "--json")
    assert done.exit_code == 1, "some were left out"
    assert "2 films of 1 patient de-identified, 3 left out." in done.output
    assert f"left out: {source / 'notes.txt'}: The file is no DICOM file." in done.output
    report = json.loads((out / "report.json").read_text())
    assert (report["films"], report["patients"]) == (2, 1)
    assert report["left_out"] == {"burned-in": 1, "copy": 1, "not-dicom": 1}
    assert report["burned_in_annotation"] == {"NO": 2}
    assert "Burnt-in text is not looked for" in report["burned_in_text"]
    rows = (out / "report.csv").read_text().splitlines()
    assert rows[0] == "tag,keyword,profile,fate,films"
    assert '"(0010,0010)",PatientName,Z,replaced,2' in rows
    films = sorted((out / "films").rglob("*.dcm"))
    assert len(films) == 2
    assert read_facts(films[0]).patient_id == films[0].parent.name
    for path in out.rglob("*"):
        assert leaks(str(path.relative_to(out)).encode()) == []
        assert path.is_dir() or leaks(path.read_bytes()) == []
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="is there already, and nothing is overwritten"):
        deidentify_folder(source, out, KEY, Policy())


def test_wrong_arguments_are_explained_and_leave_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    wrong = [
        ((tmp_path / "none", out), "doesn't exist"),
        ((source, source / "out"), "lies inside"),
        ((source, out), "holds no file"),
    ]
    for places, message in wrong:
        with pytest.raises(UsageError, match=message):
            deidentify_folder(*places, KEY, Policy())
    (source / "notes.txt").write_text("no film")
    with pytest.raises(UsageError, match="None of 1 files could be de-identified; nothing was written"):
        deidentify_folder(source, out, KEY, Policy())
    assert sorted(tmp_path.iterdir()) == [source]
    assert source.exists()
    assert "A key is missing" in str(hilum(source, out).exception)
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o644)
    assert "can be read by others" in str(hilum(source, out, "--key", key).exception)
    assert "must be four numbers" in str(hilum(source, out, "--key", key, "--mask", "1,2").exception)
    assert "has no pixels" in str(hilum(source, out, "--key", key, "--mask", "1,2,0,4").exception)
    assert "must be remove or shift" in str(hilum(source, out, "--dates", "keep").exception)
