"""What is sent back: reports and heat maps, made from a film and its answer."""

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.service.answers import NAMES, decision, film, result

from hilum.errors import FilmError, UsageError
from hilum.service.dicom.capture import caption, draw, make_capture
from hilum.service.dicom.codes import finding_code, plain
from hilum.service.dicom.objects import make_objects
from hilum.service.dicom.report import make_report, make_verified_report
from hilum.service.dicom.source_film import local_time, read_source
from hilum.service.dicom.uids import derived_uid

EXPLICIT = "1.2.840.10008.1.2.1"
FILM_UID = "1.2.826.0.1.3680043.10.1.1"
TEXTS = {0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00080050, 0x00080020, 0x00080030, 0x00080090, 0x00200010}


def read(content: bytes) -> Any:
    return pydicom.dcmread(io.BytesIO(content))


def raw(content: bytes, tag: int) -> bytes | None:
    """Bytes of a value as they stand in the file."""
    element = read(content).get_item(tag)
    if tag == 0x00080005 and element is not None:  # pydicom decodes this one at once
        values = [element.value] if isinstance(element.value, str) else element.value
        return "\\".join(values).encode()
    return None if element is None else bytes(element.value or b"")


def report_of(content: bytes, **changes: Any) -> bytes:
    return make_report(read_source(content), result(**changes)).content


def items(dataset: Any, name: str) -> list[Any]:
    """Content items of one concept name, depth first."""
    found = []
    for item in dataset.get("ContentSequence", ()):
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeMeaning == name:
            found.append(item)
        found += items(item, name)
    return found


@pytest.mark.parametrize(
    ("charset", "syntax"), [*((charset, EXPLICIT) for charset in NAMES), ("ISO_IR 192", "1.2.840.10008.1.2")]
)
def test_patient_and_study_are_the_films_own_bytes(charset: str, syntax: str) -> None:
    name = NAMES[charset]
    values = {0x00080005: charset.encode(), 0x00100010: name, 0x00080050: b" A-17 ", 0x00100020: b"  0042 "}
    source = film(syntax=syntax, raw={tag: value + b" " * (len(value) % 2) for tag, value in values.items()})
    for made in make_objects_of(source):
        for tag in TEXTS | {0x00080005}:
            assert raw(made, tag) == raw(source, tag), hex(tag)
        assert read(made).PatientName == read(source).PatientName


def make_objects_of(content: bytes) -> list[bytes]:
    source = read_source(content)
    return [make_report(source, result()).content, make_capture(content, source, result()).content]


def test_odd_values_of_the_field_are_copied_and_not_judged() -> None:
    values = {0x00100040: b"female", 0x00100030: b"1970.1.1", 0x00080030: b"25:61 ", 0x00100010: b"^^^^^^a=b=c=d "}
    source = film(raw=values)
    for made in make_objects_of(source):
        assert {tag: raw(made, tag) for tag in values} == values


def test_what_the_film_lacks_is_there_and_empty() -> None:
    bare = read(film())
    for keyword in ("PatientName", "PatientBirthDate", "AccessionNumber", "StudyID", "PatientSex"):
        delattr(bare, keyword)
    out = io.BytesIO()
    bare.save_as(out, enforce_file_format=True)
    for made in make_objects_of(out.getvalue()):
        assert {raw(made, tag) for tag in (0x00100010, 0x00100030, 0x00080050, 0x00200010, 0x00100040)} == {b""}
        assert 0x00080005 not in read(made), "without a character set in the film there is none in the result"


def test_sequences_of_the_study_come_along() -> None:
    procedure = pydicom.Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator, procedure.CodeMeaning = "X1", "99LOCAL", "Thorax p.a."
    made = read(report_of(film(ProcedureCodeSequence=[procedure], syntax="1.2.840.10008.1.2")))
    assert made.ProcedureCodeSequence[0].CodeMeaning == "Thorax p.a."


def test_a_report_says_what_the_model_said() -> None:
    source = film(3)
    made = read(report_of(source))
    assert (made.SOPClassUID, made.Modality) == ("1.2.840.10008.5.1.4.1.1.88.34", "SR")
    assert (made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert made.ConceptNameCodeSequence[0].CodeValue == "126000"
    template = made.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    groups = items(made, "Measurement Group")
    said = {items(group, "Finding")[0].ConceptCodeSequence[0].CodeValue: group for group in groups[1:]}
    assert list(said) == ["17621005", "233604007", "840539006"]
    measured = [one.MeasuredValueSequence[0] for one in items(said["233604007"], "Probability")]
    assert [float(one.NumericValue) for one in measured] == [0.75, 0.03125]
    units = measured[0].MeasurementUnitsCodeSequence[0]
    assert (units.CodeValue, units.CodingSchemeDesignator) == ("1", "UCUM")
    reached = [items(group, "Probability beside the operating point")[0] for group in groups[1:]]
    assert [one.ConceptCodeSequence[0].CodeValue for one in reached] == ["not-reached", "reached", "not-reached"]
    assert [one.TextValue for one in items(groups[0], "Comment")] == [
        "Research and validation only - not for diagnosis"
    ]
    scheme = made.CodingSchemeIdentificationSequence[0]
    assert (scheme.CodingSchemeDesignator, scheme.CodingSchemeName) == ("99HILUM", "Codes of the hilum reading room")


def test_a_report_names_the_algorithm_and_the_image() -> None:
    made, source = read(report_of(film(3))), read(film(3))
    for group in items(made, "Measurement Group"):
        assert items(group, "Algorithm Name")[0].TextValue == "small"
        assert items(group, "Algorithm Version")[0].TextValue == "1.2"
        parameters = [one.TextValue for one in items(group, "Algorithm Parameters")]
        assert parameters == [f"bundle={'b' * 64}", "precision=fp32"]
        image = items(group, "Source of Measurement")[0]
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    evidence = made.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == source.StudyInstanceUID
    assert evidence.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    referenced = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert (referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID) == (
        source.SOPClassUID,
        source.SOPInstanceUID,
    )


def test_an_abstention_has_no_finding_and_says_why() -> None:
    made = read(report_of(film(), label=None, positive=(), reasons=("Two findings are close – a person decides.",)))
    answer = items(made, "Measurement Group")[0]
    assert items(answer, "Finding") == []
    assert items(answer, "Answer of the model")[0].ConceptCodeSequence[0].CodeValue == "abstained"
    assert items(answer, "Comment")[1].TextValue == "Two findings are close - a person decides."


def test_equal_answers_make_equal_objects_and_other_models_make_others() -> None:
    content = film()
    again, source = make_objects_of(content), read_source(content)
    assert make_objects_of(content) == again
    uids = [read(made).SOPInstanceUID for made in again]
    assert len(set(uids)) == 2
    assert read(again[0]).file_meta.MediaStorageSOPInstanceUID == uids[0] == result().uid("report", FILM_UID)
    for change in ({"model_sha256": "c" * 64}, {"content_sha256": "c" * 64}):
        assert result(**change).uid("report", FILM_UID) != uids[0]
    assert source.sop_instance_uid == FILM_UID
    one_study = make_report(read_source(film(2, StudyInstanceUID=read(content).StudyInstanceUID)), result())
    assert read(one_study.content).SeriesInstanceUID == read(again[0]).SeriesInstanceUID
    assert read(again[1]).SeriesInstanceUID not in (read(again[0]).SeriesInstanceUID, read(content).SeriesInstanceUID)


def test_a_derived_uid_is_a_uuid_of_version_8() -> None:
    import uuid

    for number in range(50):
        uid = derived_uid("test", str(number))
        assert len(uid) <= 64
        made = uuid.UUID(int=int(uid.removeprefix("2.25.")))
        assert (made.variant, made.version) == (uuid.RFC_4122, 8)
    assert derived_uid("a", "b", "c") != derived_uid("a", "bc")


def test_times_are_in_the_films_offset() -> None:
    made = read(report_of(film(TimezoneOffsetFromUTC="-0500")))
    assert (made.ContentDate, made.ContentTime, made.TimezoneOffsetFromUTC) == ("20261105", "042030", "-0500")
    assert local_time(read_source(film()), result().made_at).isoformat() == "2026-11-05T10:20:30+01:00"


def test_a_readers_decision_makes_a_verified_successor() -> None:
    source = read_source(film(raw={0x00080005: b"ISO_IR 100"}))
    before = make_report(source, result())
    made = read(make_verified_report(source, result(), decision(reader="Müller^Eva")).content)
    assert (made.VerificationFlag, made.PreliminaryFlag) == ("VERIFIED", "FINAL")
    observer = made.VerifyingObserverSequence[0]
    assert str(observer.VerifyingObserverName) == "Müller^Eva"
    assert (observer.VerifyingOrganization, observer.VerificationDateTime) == ("Synthetic Hospital", "20261105110000")
    predecessor = made.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert predecessor.SeriesInstanceUID == made.SeriesInstanceUID
    assert predecessor.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.sop_instance_uid
    assert made.SOPInstanceUID != before.sop_instance_uid
    answer = items(made, "Measurement Group")[0]
    assert items(answer, "Finding")[0].ConceptCodeSequence[0].CodeMeaning == "Normal"
    assert items(answer, "Answer of the model")[0].ConceptCodeSequence[0].CodeMeaning == "Pneumonia"
    assert items(answer, "Decision of the reader")[0].ConceptCodeSequence[0].CodeValue == "overridden"
    assert items(answer, "Comment")[-1].TextValue == "Overlap of the breast."
    assert str(items(made, "Person Observer Name")[0].PersonName) == "Müller^Eva"
    assert made.SOPInstanceUID == result().uid("verified-report", source.sop_instance_uid, "d1")


def test_a_name_that_the_character_set_lacks_is_refused() -> None:
    source = read_source(film(raw={0x00080005: b"ISO_IR 100"}))
    with pytest.raises(FilmError, match="can't be written in the film's character set 'ISO_IR 100'"):
        make_verified_report(source, result(), decision(reader="山田^太郎"))
    source = read_source(film(raw={0x00080005: b"QANARY"}))
    with pytest.raises(FilmError, match=r"character set \(0008,0005\), no term of DICOM's\. Write it"):
        make_verified_report(source, result(), decision(reader="山田^太郎"))


def test_a_heat_map_names_its_model_and_its_film() -> None:
    content = film(4)
    made, source = read(make_capture(content, read_source(content), result()).content), read(content)
    assert (made.SOPClassUID, made.Modality, made.ConversionType) == ("1.2.840.10008.5.1.4.1.1.7", "OT", "WSD")
    assert list(made.ImageType) == ["DERIVED", "SECONDARY"]
    assert made.BurnedInAnnotation == "YES"
    said = "AI heat map: pneumonia - answer: pneumonia - small 1.2 (bbbbbbbbbbbb) - not for diagnosis"
    assert made.DerivationDescription == said
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert list(made.PatientOrientation) == ["L", "F"]
    assert made.pixel_array.shape == (64, 48, 3)


@pytest.mark.parametrize(("label", "answer"), [("normal", "normal"), (None, "none, the model abstained")])
def test_a_heat_map_of_what_is_not_the_answer_says_so(label: str | None, answer: str) -> None:
    content = film(4)
    made = read(make_capture(content, read_source(content), result(label=label)).content)
    assert made.DerivationDescription.startswith(f"AI heat map: pneumonia - answer: {answer} - small 1.2")


def test_the_words_are_burnt_into_the_picture() -> None:
    content = film(4)
    source, answer = read_source(content), result()
    assert answer.heat is not None
    shown = read(make_capture(content, source, answer).content).pixel_array
    assert (shown == draw(content, answer.heat, caption(answer, answer.heat))).all()
    assert (shown != draw(content, answer.heat, "")).any()
    later = result(model_version="1.3")
    assert (shown != draw(content, answer.heat, caption(later, answer.heat))).any(), "another version, other pixels"


def test_without_a_heat_map_none_is_made(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(film())
    assert [made.sop_class_uid for made in make_objects(path, result())] == [
        "1.2.840.10008.5.1.4.1.1.88.34",
        "1.2.840.10008.5.1.4.1.1.7",
    ]
    assert len(make_objects(path, result(heat=None))) == 1
    with pytest.raises(UsageError, match="no heat map"):
        make_capture(film(), read_source(film()), result(heat=None))
    (verified,) = make_objects(path, result(), decision(reader="山田^太郎", finding=None))
    assert read(verified.content).VerificationFlag == "VERIFIED"
    assert str(read(verified.content).VerifyingObserverSequence[0].VerifyingObserverName) == "??^??"
    path.unlink()
    with pytest.raises(FilmError, match=r"can't be read any more \(No such file or directory\)"):
        make_objects(path, result())


def test_a_film_without_a_study_gets_no_result() -> None:
    with pytest.raises(FilmError, match="no StudyInstanceUID, so no result can refer to it"):
        read_source(film(StudyInstanceUID=""))


def test_findings_without_a_known_code_get_one_of_ours() -> None:
    code = finding_code("Pleural effusion – left")
    assert (code.value, code.scheme, code.meaning) == (
        "pleural-effusion-left",
        "99HILUM",
        "Pleural effusion - left",
    )
    made = read(report_of(film(), probs={"Pleural effusion – left": 0.5}))
    finding = items(items(made, "Measurement Group")[1], "Finding")[0].ConceptCodeSequence[0]
    assert finding.LongCodeValue == "pleural-effusion-left", "more than 16 characters"
    assert plain("naïve ≥ 1") == "na?ve >= 1"


@pytest.mark.system
@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_dcmtk_reads_both(tmp_path: Path, charset: str) -> None:
    assert shutil.which("dsrdump"), "install dcmtk"
    source = film(raw={0x00080005: charset.encode(), 0x00100010: NAMES[charset] + b" " * (len(NAMES[charset]) % 2)})
    report, capture = make_objects_of(source)
    header = read_source(source)
    verified = make_verified_report(header, result(), decision()).content
    (tmp_path / "sr.dcm").write_bytes(report)
    (tmp_path / "verified.dcm").write_bytes(verified)
    (tmp_path / "sc.dcm").write_bytes(capture)
    done = subprocess.run(["dsrdump", "-Ec", "+Pl", str(tmp_path / "sr.dcm")], capture_output=True, check=True)
    assert b"Comprehensive 3D SR Document" in done.stdout
    assert b'"Probability")="0.75" (1,UCUM,"no units")' in done.stdout
    assert NAMES[charset].split(b"=")[0] in done.stdout
    assert b"E:" not in done.stderr
    done = subprocess.run(["dsrdump", str(tmp_path / "verified.dcm")], capture_output=True, check=True)
    assert b"VERIFIED" in done.stdout
    assert b"Reader^Synthetic" in done.stdout
    done = subprocess.run(["dcmdump", "+P", "0028,0301", str(tmp_path / "sc.dcm")], capture_output=True, check=True)
    assert b"YES" in done.stdout
