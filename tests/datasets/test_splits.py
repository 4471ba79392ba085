"""Splits keep patients and copies apart, say so, and refuse what can't be done honestly."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from hilum.arrays import Array
from hilum.datasets.duplicates import find_duplicates
from hilum.datasets.manifest import Manifest
from hilum.datasets.split_report import overlap_of, prove_disjoint, report_of
from hilum.datasets.splits import SplitConfig, split
from hilum.datasets.thumbs import make_thumb
from hilum.errors import ConfigError, SplitError

Films = Callable[..., Manifest]


def cohort(films_of: Films, patients: int = 60) -> Manifest:
    """Two films a patient, three labels, two sources, a date for each."""
    n = 2 * patients
    return films_of(
        n,
        patient_id=[f"p{i // 2}" for i in range(n)],
        label=[("normal", "pneumonia", "covid-19")[i // 2 % 3] for i in range(n)],
        source=[("a", "b")[i // 6 % 2] for i in range(n)],
        acquired=[f"2020-{1 + i // 2 % 12:02d}-{10 + i % 2:02d}" for i in range(n)],
    )


def cells(films: Manifest, column: str) -> dict[str, set[tuple[str, int]]]:
    """In which parts and folds each value of a column lies."""
    found = defaultdict(set)
    for value, part, fold in zip(films.strings(column), films.strings("part"), films.column("fold"), strict=True):
        if part:
            found[value].add((part, int(fold)))
    return found


def test_no_patient_lies_in_two_parts_or_folds(films_of: Films) -> None:
    films = split(cohort(films_of))
    assert all(len(where) == 1 for where in cells(films, "patient_id").values())
    assert {fold for _, fold in set().union(*cells(films, "patient_id").values())} == {-1, 0, 1, 2, 3, 4}


def test_labels_and_sources_are_spread_evenly(films_of: Films) -> None:
    films = split(cohort(films_of))
    test = films.select(films.rows(part="test"))
    assert len(test) == pytest.approx(24, abs=4)
    assert {label: test.strings("label").count(label) for label in test.labels} == pytest.approx(
        {"normal": 8, "pneumonia": 8, "covid-19": 8}, abs=2
    )
    assert test.strings("source").count("a") == pytest.approx(12, abs=4)


def test_a_share_of_three_tenths_is_met(films_of: Films) -> None:
    films = split(cohort(films_of), SplitConfig(test_share=0.3, folds=3))
    assert len(films.rows(part="test")) == pytest.approx(36, abs=4)


def test_a_split_depends_on_its_seed_alone(films_of: Films) -> None:
    films = cohort(films_of)
    once, twice, other = (report_of(split(films, SplitConfig(seed=seed))).fingerprint for seed in (1, 1, 2))
    assert once == twice != other


def test_row_order_and_everything_else_stay_as_they_were(films_of: Films) -> None:
    films = cohort(films_of)
    after = split(films)
    assert after.strings("film_id") == films.strings("film_id")
    assert after.table.drop_columns(["part", "fold"]).num_columns == films.table.num_columns - 2


def test_copies_under_two_patient_ids_stay_together_and_are_reported(
    films_of: Films, field: Callable[..., Array]
) -> None:
    """Thirty patients with a film each, and each film's negative under another patient's id."""
    thumbs = [make_thumb(field(seed, 128)) for seed in range(30)]
    films = films_of(60, thumb=np.stack(thumbs + [255 - t for t in thumbs]), label=["normal", "covid-19"] * 30)
    result = split(films, SplitConfig(folds=3))
    where = cells(result, "patient_id")
    assert all(where[f"p{i}"] == where[f"p{i + 30}"] for i in range(30))
    report = report_of(result)
    assert (report.groups, report.merged_patients, report.copies) == (30, 60, 30)
    assert "60 patients share copies" in report.warnings[0]


def test_one_sop_instance_under_two_patient_ids_stays_together(films_of: Films) -> None:
    films = cohort(films_of).with_columns(sop_instance_uid=[f"1.2.{i % 118}" for i in range(120)])
    where = cells(split(films), "sop_instance_uid")
    assert where["1.2.0"] == where["1.2.1"]
    assert all(len(places) == 1 for places in where.values())


def test_the_report_counts_every_film_once_and_proves_no_overlap(films_of: Films) -> None:
    report = report_of(split(cohort(films_of)))
    assert sum(count.films for count in report.counts) == report.films == 120
    assert sum(count.patients for count in report.counts) == report.patients == 60
    assert report.overlap.total == 0
    text = "\n".join(report.lines())
    assert "Shared between fit, test and folds: 0 patients, 0 SOP instances, 0 files, 0 perceptual copies" in text


def test_an_overlap_is_counted_and_refused(films_of: Films, field: Callable[..., Array]) -> None:
    thumb = make_thumb(field(0, 128))
    films = films_of(
        4,
        patient_id=["a", "a", "b", "c"],
        film_id=["1", "2", "3", "3"],
        sop_instance_uid=["u", "v", "u", ""],
        thumb=np.stack([thumb, 255 - thumb, make_thumb(field(1, 128)), make_thumb(field(2, 128))]),
        part=["fit", "test", "test", "fit"],
        fold=[0, -1, -1, 1],
    )
    overlap = overlap_of(films, find_duplicates(films))
    assert (overlap.patients, overlap.sop_instances, overlap.files, overlap.copies) == (1, 1, 1, 1)
    with pytest.raises(SplitError, match=r"share 1 patients, 1 SOP instances, 1 files and 1 perceptual copies"):
        prove_disjoint(overlap)


def test_films_in_no_part_overlap_with_nothing(films_of: Films) -> None:
    films = films_of(2, patient_id=["a", "a"], part=["fit", ""], fold=[0, -1])
    assert overlap_of(films, find_duplicates(films)).total == 0


def test_by_time_every_test_film_is_later_than_every_fit_film(films_of: Films) -> None:
    films = split(cohort(films_of), SplitConfig(by="time", folds=3))
    dates = films.column("acquired")
    assert max(dates[films.rows(part="fit")]) < min(dates[films.rows(part="test")])
    assert len(films.rows(part="test")) == pytest.approx(24, abs=10)


def test_by_time_later_films_of_earlier_patients_are_in_no_part(films_of: Films) -> None:
    films = cohort(films_of)
    dates = films.strings("acquired")
    dates[1] = "2020-12-31"
    films = split(films.with_columns(acquired=dates), SplitConfig(by="time", folds=3))
    assert films.strings("part")[:2] == ["fit", ""]
    assert "1 films from 2020-11-10 on are of patients with earlier films" in " ".join(report_of(films).warnings)


def test_by_time_a_date_to_the_year_is_left_out_where_it_may_lie_after_the_cut(films_of: Films) -> None:
    films = cohort(films_of)
    dates = films.strings("acquired")
    dates[0] = dates[1] = "2020"
    films = split(films.with_columns(acquired=dates), SplitConfig(by="time", folds=3))
    assert films.strings("part")[:2] == ["", ""]
    report = report_of(films)
    assert report.left_out == 2
    assert "2 films are dated too coarsely" in " ".join(report.warnings)


def test_by_time_needs_dates(films_of: Films) -> None:
    films = cohort(films_of).with_columns(acquired=["", "", *["2020-01-01"] * 118])
    with pytest.raises(SplitError, match=r"acquired is empty for 2 of 120 films \(rows 1, 2\), so a split by time"):
        split(films, SplitConfig(by="time"))


def test_by_time_needs_more_than_one_day(films_of: Films) -> None:
    films = cohort(films_of).with_columns(acquired=["2020-01-01"] * 120)
    with pytest.raises(SplitError, match=r"All patients begin on 2020-01-01"):
        split(films, SplitConfig(by="time"))


def test_by_source_the_test_is_that_source_whole(films_of: Films) -> None:
    films = split(cohort(films_of), SplitConfig(by="source", external_source="b", folds=3))
    assert {films.strings("source")[i] for i in films.rows(part="test")} == {"b"}
    assert {films.strings("source")[i] for i in films.rows(part="fit")} == {"a"}


def test_by_source_films_from_elsewhere_of_a_test_patient_are_in_no_part(films_of: Films) -> None:
    films = cohort(films_of)
    sources = films.strings("source")
    sources[0] = "b"
    films = split(films.with_columns(source=sources), SplitConfig(by="source", external_source="b", folds=3))
    assert films.strings("part")[:2] == ["test", ""]
    assert "1 films from elsewhere belong with films of 'b'" in " ".join(report_of(films).warnings)


def test_by_source_an_unknown_source_lists_the_known_ones(films_of: Films) -> None:
    with pytest.raises(SplitError, match=r"No film comes from source 'c'. Known: a, b"):
        split(cohort(films_of), SplitConfig(by="source", external_source="c"))


def test_by_source_the_only_source_leaves_nothing_to_fit(films_of: Films) -> None:
    films = cohort(films_of).with_columns(source=["a"] * 120)
    with pytest.raises(SplitError, match=r"The fit part would be empty"):
        split(films, SplitConfig(by="source", external_source="a"))


def test_without_patient_ids_there_is_no_split(films_of: Films) -> None:
    films = cohort(films_of).with_columns(patient_id=["", *["p"] * 112, *[""] * 7])
    with pytest.raises(SplitError, match=r"patient_id is empty for 8 of 120 films \(rows 1, 114, 115, 116, 117, …\)"):
        split(films)


def test_an_empty_manifest_is_refused(films_of: Films) -> None:
    with pytest.raises(SplitError, match="has no film, so there is nothing to split"):
        split(films_of(0))


def test_classes_with_fewer_patients_than_folds_are_refused_all_at_once(films_of: Films) -> None:
    labels = ["normal"] * 114 + ["pneumonia"] * 2 + ["covid-19"] * 4
    with pytest.raises(SplitError) as caught:
        split(cohort(films_of).with_columns(label=labels))
    assert "Label 'pneumonia' has 1 patients, fewer than one each for the" in str(caught.value)
    assert "Label 'covid-19' has 2 patients" in str(caught.value)


def test_a_fold_without_a_class_is_a_warning(films_of: Films) -> None:
    """By source, the test lacks the class that the other source alone has."""
    films = cohort(films_of)
    pairs = zip(films.strings("source"), films.strings("label"), strict=True)
    labels = ["pneumonia" if pair == ("b", "covid-19") else pair[1] for pair in pairs]
    films = films.with_columns(label=labels)
    result = split(films, SplitConfig(by="source", external_source="b", folds=3))
    assert "The test has no film of 'covid-19'." in report_of(result).warnings


def test_wrong_settings_are_reported_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SplitConfig(by="hospital", test_share=1.5, folds=1, seed=-1, external_source="a")
    assert len(caught.value.problems) == 5
    assert "by is 'hospital'" in str(caught.value)
    assert "test_share is 1.5, but must lie between 0 and 1" in str(caught.value)
    assert "folds is 1, but must be 2 or more" in str(caught.value)
    assert "seed is -1" in str(caught.value)
    assert "external_source is 'a', but by is 'hospital'. Give --by source." in str(caught.value)
    with pytest.raises(ConfigError, match="A split by source needs the source to lock away: give --external-source"):
        SplitConfig(by="source")


def test_a_manifest_that_was_not_split_has_no_report(films_of: Films) -> None:
    with pytest.raises(SplitError, match="was not split. Use hilum data split"):
        report_of(films_of(1))
