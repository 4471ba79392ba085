"""The check names what would make results misleading, the worst first, and counts blanks as a level of their own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hilum.arrays import Array
from hilum.datasets.checks import CheckReport, check
from hilum.datasets.manifest import Manifest
from hilum.datasets.thumbs import make_thumb

Films = Callable[..., Manifest]


def codes(report: CheckReport) -> list[str]:
    return [flag.code for flag in report.flags]


def sentence(report: CheckReport, code: str) -> str:
    return next(flag.sentence for flag in report.flags if flag.code == code)


def test_a_class_from_a_single_source_is_red_and_first(films_of: Films) -> None:
    films = films_of(6, label=["covid-19", "covid-19", *["normal"] * 4], source=["a", "a", "a", "a", "b", "b"])
    report = check(films, files=False)
    assert report.flags[0].severity == "red"
    assert report.flags[0].code == "single-source"
    assert "All 2 films of 'covid-19' come from one source, 'a'" in report.flags[0].sentence
    assert codes(report).count("single-source") == 1


def test_a_class_mostly_from_one_source_is_amber(films_of: Films) -> None:
    films = films_of(22, label=["normal"] * 20 + ["covid-19"] * 2, source=["a"] * 19 + ["b", "a", "b"])
    report = check(films, files=False)
    assert sentence(report, "mostly-one-source") == "19 of 20 films of 'normal' come from source 'a'."


def test_without_sources_confounding_can_not_be_looked_for(films_of: Films) -> None:
    assert "source is recorded" in sentence(check(films_of(2), files=False), "source-unknown")


def test_one_source_says_nothing_of_elsewhere(films_of: Films) -> None:
    assert "from source 'a'" in sentence(check(films_of(2, source=["a", "a"]), files=False), "one-source")


def test_tables_count_films_with_not_recorded_as_a_level(films_of: Films) -> None:
    films = films_of(4, label=["covid-19", "normal", "", "normal"], view_position=["PA", "", "AP", "PA"])
    tables = {table.group: table for table in check(films, files=False).tables}
    assert list(tables) == ["source", "view_position", "sex", "age_band", "device"]
    view = tables["view_position"]
    assert view.levels == ("AP", "PA", "not recorded")
    assert view.labels == ("normal", "covid-19", "not recorded")
    assert view.films == ((0, 1, 1), (0, 1, 0), (1, 0, 0))
    assert view.lines()[1].split() == ["normal", "0", "1", "1"]


def test_gaps_in_patients_labels_and_groups_are_named(films_of: Films) -> None:
    films = films_of(
        4, patient_id=["a", "", "a", ""], label=["normal", "normal", "covid-19", ""], sex=["M", "F", "", "M"]
    )
    report = check(films, files=False)
    assert "2 of 4 films have no patient_id" in sentence(report, "no-patient")
    assert "1 of 4 films have no label" in sentence(report, "no-label")
    assert "1 patients have films of more than one label" in sentence(report, "several-labels")
    assert "sex is not recorded for 1 of 4 films" in sentence(report, "gap-sex")


def test_a_single_label_is_red(films_of: Films) -> None:
    assert "nothing can be told apart" in sentence(check(films_of(2, label=["normal"] * 2), files=False), "one-label")


def test_copies_between_patients_and_labels_are_named(films_of: Films, field: Callable[..., Array]) -> None:
    thumb = make_thumb(field(0, 128))
    films = films_of(
        3, thumb=np.stack([thumb, 255 - thumb, make_thumb(field(1, 128))]), label=["normal", "covid-19", ""]
    )
    report = check(films, files=False)
    assert report.copies.near == report.copies.inverted == report.copies.between_patients == 1
    assert report.copies.pairs[0][:2] == ("0.png", "1.png")
    assert "1 pairs of copies are under two patient ids" in sentence(report, "copies-between-patients")
    assert "1 pairs of copies have two different labels" in sentence(report, "copies-between-labels")


def test_equal_files_of_one_patient_are_a_note(films_of: Films) -> None:
    report = check(films_of(2, film_id=["x", "x"], patient_id=["a", "a"]), files=False)
    assert sentence(report, "copies") == "1 pairs of copies, each within one patient."


def test_a_reused_sop_instance_uid_is_amber(films_of: Films) -> None:
    report = check(films_of(3, sop_instance_uid=["1.2", "1.2", ""]), files=False)
    assert "1 SOP instance UIDs belong to more than one content" in sentence(report, "uid-reused")


def test_missing_films_and_masks_are_red(films_of: Films, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"there")
    report = check(films_of(3, mask=["m/0.png", "", ""]))
    assert "2 films are not where the manifest says" in sentence(report, "missing-films")
    assert "1 masks are not where the manifest says" in sentence(report, "missing-masks")
    assert report.masks == 1


def test_films_outside_the_intended_use_are_named(films_of: Films) -> None:
    films = films_of(
        3, view_position=["LL", "PA", ""], age_years=[5, 40, None], width=[100, 2000, 0], height=[3000, 2000, 0]
    )
    report = check(films, files=False)
    assert "1 films are not frontal" in sentence(report, "not-frontal")
    assert "1 films are of patients under 18" in sentence(report, "children")
    assert "1 films have a side shorter than 224 pixels" in sentence(report, "small")
    assert (report.sizes["width"].smallest, report.sizes["width"].median) == (100, 1050)


def test_a_film_of_one_grey_value_is_red(films_of: Films, field: Callable[..., Array]) -> None:
    films = films_of(2, thumb=np.stack([np.zeros((64, 64), np.uint8), make_thumb(field(0))]))
    assert "1 films show next to nothing" in sentence(check(films, files=False), "flat")


def test_the_report_is_json_and_lines(films_of: Films) -> None:
    report = check(films_of(2, label=["normal", "covid-19"], bits_stored=[8, 0]), files=False)
    assert json.loads(json.dumps(report.to_json()))["films"] == 2
    assert report.bits_stored == {"not recorded": 1, "8": 1}
    text = "\n".join(report.lines())
    assert "2 films of 2 patients" in text
    assert "AMBER: No film's source is recorded" in text


def test_the_real_chest_set_is_confounded(shared_data: Path) -> None:
    """What the folder's README says of it: every COVID film is from one source, and 21 patients have both labels."""
    import csv

    with open(shared_data / "chest" / "manifest.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    told = {name: [row[name] for row in rows] for name in ("patient_id", "label", "source", "view_position")}
    films = Manifest.from_columns({"path": [row["image"] for row in rows], **told}, folder=shared_data / "chest")
    report = check(films)
    assert [flag.code for flag in report.flags if flag.severity == "red"] == ["single-source"]
    assert "All 190 films of 'covid-19' come from one source, 'cohen'" in report.flags[0].sentence
    assert sentence(report, "several-labels").startswith("21 patients")
    assert report.tables[0].films == pytest.approx(np.array([[6, 500], [67, 442], [190, 0]]))
