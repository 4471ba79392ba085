"""Phantom cohorts on disk: real DICOM, the same whatever the number of workers, resumed after an interruption."""

import csv
import hashlib

import numpy as np
import pydicom
import pytest
from PIL import Image

from hilum.datasets.phantom import writing
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.datasets.phantom.writing import generate
from hilum.errors import UsageError
from hilum.imaging.reading import read_film

TINY = PhantomConfig(patients=12, size=64, seed=9)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A tiny cohort, written once."""
    folder = tmp_path_factory.mktemp("phantom")
    generate(TINY, folder, workers=1)
    return folder


def _hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _rows(folder):
    with open(folder / "labels.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_table_names_every_film_and_mask(cohort):
    rows = _rows(cohort)
    assert list(rows[0]) == ["path", "patient_id", "label", "source", "mask"]
    assert len(rows) == len(plan_cohort(TINY))
    assert {row["path"] for row in rows} == {p.relative_to(cohort).as_posix() for p in cohort.glob("hospital-*/*.dcm")}
    assert {row["mask"] for row in rows if row["mask"]} == {f"masks/{p.name}" for p in cohort.glob("masks/*.png")}
    assert all((row["mask"] == "") == (row["label"] == "normal") for row in rows)
    assert all(row["path"].startswith(row["source"] + "/") for row in rows)


def test_films_carry_the_tags_of_a_chest_film_and_say_that_they_are_synthetic(cohort):
    for plan in plan_cohort(TINY):
        dataset = pydicom.dcmread(cohort / plan.hospital / f"{plan.name}.dcm")
        assert dataset.PatientID == f"PHANTOM-{plan.patient:06d}"
        assert str(dataset.PatientName) == f"Phantom^{plan.patient:06d}"
        assert dataset.Modality == plan.device.modality
        assert dataset.BodyPartExamined == "CHEST"
        assert dataset.ViewPosition == plan.view
        assert (dataset.PatientSex, dataset.PatientAge) == (plan.sex, f"{plan.age_years:03d}Y")
        assert dataset.StudyDate == plan.acquired.strftime("%Y%m%d")
        assert dataset.ManufacturerModelName == plan.device.model
        assert dataset.PhotometricInterpretation == plan.device.photometric
        assert dataset.BitsStored == plan.device.bits_stored
        assert dataset.ImagerPixelSpacing[0] == pytest.approx(plan.device.long_side_mm / 64, abs=1e-3)
        assert dataset.get("PresentationIntentType", "FOR PRESENTATION") == "FOR PRESENTATION"
        assert "synthetic" in dataset.SeriesDescription.lower()
        assert "synthetic" in dataset.ImageComments.lower()
        assert "synthetic" in dataset.InstitutionName.lower()


def test_no_tag_but_the_pixels_holds_the_finding(cohort):
    for row in _rows(cohort):
        text = str(pydicom.dcmread(cohort / row["path"], stop_before_pixels=True)).lower()
        assert "pneumonia" not in text
        assert "covid" not in text


def test_films_of_one_patient_are_studies_with_distinct_uids(cohort):
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in cohort.glob("hospital-*/*.dcm")]
    assert len(set(uids)) == len(uids)


def test_reading_a_film_gives_the_rendered_picture_in_either_polarity(cohort):
    seen = set()
    for plan in plan_cohort(TINY):
        if plan.device.photometric in seen:
            continue
        seen.add(plan.device.photometric)
        read = read_film(cohort / plan.hospital / f"{plan.name}.dcm")
        drawn = render(plan).pixels
        assert read.pixels / 65535 == pytest.approx(drawn, abs=1e-3)
        assert read.flags == ()
    assert seen == {"MONOCHROME1", "MONOCHROME2"}


def test_masks_are_black_and_white_pictures_of_the_lesion(cohort):
    plan = next(plan for plan in plan_cohort(TINY) if plan.label == "covid-19")
    mask = np.asarray(Image.open(cohort / "masks" / f"{plan.name}.png"))
    assert np.array_equal(mask, render(plan).lesion * np.uint8(255))


def test_workers_make_no_difference(cohort, tmp_path):
    generate(TINY, tmp_path / "two", workers=2)
    assert _hashes(tmp_path / "two") == _hashes(cohort)


def test_an_interrupted_run_goes_on_where_it_was(cohort, tmp_path, monkeypatch):
    """After a stop in the middle there is no table; the next run draws only what is missing and ends the same."""
    drawn = []

    def stopping(plan, *, out):
        if len(drawn) == 5:
            raise KeyboardInterrupt
        drawn.append(plan.name)
        original(plan, out=out)

    original = writing.write_one
    monkeypatch.setattr(writing, "write_one", stopping)
    with pytest.raises(KeyboardInterrupt):
        generate(TINY, tmp_path, workers=1)
    assert not (tmp_path / "labels.csv").exists()
    monkeypatch.setattr(writing, "write_one", lambda plan, *, out: (drawn.append(plan.name), original(plan, out=out)))
    generate(TINY, tmp_path, workers=1)
    assert len(drawn) == len(set(drawn)) == len(plan_cohort(TINY))
    assert _hashes(tmp_path) == _hashes(cohort)


def test_a_film_that_fails_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    def failing(dataset, path, **_):
        path.write_bytes(b"half a film")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.dataset.Dataset, "save_as", failing)
    with pytest.raises(OSError, match="No space left"):
        generate(TINY, tmp_path, workers=1)
    assert not list(tmp_path.glob("hospital-*/*"))
    assert not list(tmp_path.glob("hospital-*/.*"))


def test_a_complete_folder_is_left_as_it_is(cohort, monkeypatch):
    monkeypatch.setattr(writing, "render", None)
    assert generate(TINY, cohort) == cohort / "labels.csv"


def test_a_folder_of_another_cohort_is_refused(cohort):
    with pytest.raises(UsageError, match="holds a phantom cohort of another config"):
        generate(PhantomConfig(patients=12, size=64, seed=10), cohort)


def test_a_folder_with_a_damaged_note_is_refused(tmp_path):
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(UsageError, match="holds a phantom cohort of another config"):
        generate(TINY, tmp_path)


def test_a_folder_with_a_persons_own_labels_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(UsageError, match="is no phantom cohort's"):
        generate(TINY, tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file, so no cohort can be written there"):
        generate(TINY, tmp_path / "out")


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="workers is 0, but at least one process"):
        generate(TINY, tmp_path, workers=0)
