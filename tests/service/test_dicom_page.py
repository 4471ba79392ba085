"""docs/dicom.md says what the code does: classes, syntaxes, codes, settings."""

import re
from pathlib import Path

from hilum.imaging.codecs import CODECS
from hilum.imaging.deidentification import METHODS
from hilum.service.dicom import capture, codes, report
from hilum.service.dicom.classes import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, STORAGE, TRANSFER_SYNTAXES, VERIFICATION
from hilum.service.dicomweb import attributes, matching, searching, storing
from hilum.service.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "dicom.md").read_text()
UID = re.compile(r"1\.2\.840\.10008[.\d]*\d")


def section(title: str) -> str:
    return re.split(r"^#+ ", PAGE.split(f"# {title}\n")[1], flags=re.M)[0]


def test_the_tables_of_classes_and_syntaxes_are_those_of_the_listener() -> None:
    assert set(UID.findall(section("SOP classes"))) == {VERIFICATION, *STORAGE}
    assert set(UID.findall(section("Transfer syntaxes"))) == set(TRANSFER_SYNTAXES)


def test_no_syntax_is_agreed_to_that_nothing_decodes() -> None:
    assert set(TRANSFER_SYNTAXES) == set(CODECS)


def test_who_sends_by_the_page_is_let_in_by_it() -> None:
    start = section("In five minutes")
    (allowed,) = re.findall(r"--allow (\S+)", start)
    senders = [line.split() for line in start.splitlines() if re.match(r"(echo|store)scu ", line)]
    assert [line[line.index("-aet") + 1] for line in senders] == [allowed, allowed]
    (ours,) = re.findall(r"--ae-title (\S+)", start)
    assert {line[line.index("-aec") + 1] for line in senders} == {ours}


def test_every_code_that_is_sent_is_on_the_page() -> None:
    known = [one for one in vars(codes).values() if isinstance(one, codes.Code)] + list(codes.FINDINGS.values())
    used = {one.value for one in known} - {codes.PROCESSING_EQUIPMENT.value, codes.SOURCE_IMAGE.value}
    assert {value for value in used if f"({value}, " not in PAGE} == set()
    assert all(code in PAGE for code in METHODS)


def test_objects_and_settings_are_those_of_the_code() -> None:
    sent = section("What is sent back")
    assert f"{report.COMPREHENSIVE_3D_SR} " in sent
    assert f"{capture.SECONDARY_CAPTURE} " in sent
    assert {str(report.SERIES_NUMBER), str(capture.SERIES_NUMBER)} <= set(re.findall(r"\d{4}", sent))
    named = {name.removeprefix("HILUM_").lower() for name in re.findall(r"HILUM_[A-Z_]+", PAGE)}
    assert named - {"deidentification_key"} <= set(Settings.model_fields)
    assert {name for name in Settings.model_fields if name.startswith("results_")} <= named
    assert Settings.model_fields["results_give_up_h"].default == 72
    assert Settings.model_fields["results_retry_cap_s"].default == 1800


def test_the_dicomweb_section_names_what_is_searched_for_and_told() -> None:
    section_text = section("DICOMweb")
    study = {**attributes.STUDY, **matching.COMPUTED}
    for level, own in (("study", study), ("series", attributes.SERIES), ("instance", attributes.INSTANCE)):
        (row,) = re.findall(rf"^\| {level} \| (.*) \|$", section_text, flags=re.M)
        assert set(row.split(", ")) == set(own), level
    named = {int(code, 16) for code in re.findall(r"^\| (0x[0-9A-F]{4}) \|", section_text, flags=re.M)}
    assert named == {storing.DUPLICATE, storing.NOT_SUPPORTED, storing.WRONG_STUDY, OUT_OF_RESOURCES, CANNOT_UNDERSTAND}
    for number in (storing.MOST_PARTS, searching.MOST_RESULTS, searching.MOST_STUDIES):
        assert f"{number:,}" in section_text
