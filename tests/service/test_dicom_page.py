"""docs/dicom.md says what the code does: classes, syntaxes, codes, settings."""

import re
from pathlib import Path

from hilum.imaging.deidentification import METHODS
from hilum.service.dicom import capture, codes, report
from hilum.service.dicom.classes import STORAGE, TRANSFER_SYNTAXES, VERIFICATION
from hilum.service.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "dicom.md").read_text()
UID = re.compile(r"1\.2\.840\.10008[.\d]*\d")


def section(title: str) -> str:
    return re.split(r"^#+ ", PAGE.split(f"# {title}\n")[1], flags=re.M)[0]


def test_the_tables_of_classes_and_syntaxes_are_those_of_the_listener() -> None:
    assert set(UID.findall(section("SOP classes"))) == {VERIFICATION, *STORAGE}
    assert set(UID.findall(section("Transfer syntaxes"))) == set(TRANSFER_SYNTAXES)


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
