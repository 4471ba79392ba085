"""A class from one source is named in red; clean data raise no alarm; associations and figures are right."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from hilum.errors import DataError
from hilum.evaluation.confounding import (
    ALL_SOURCES,
    SourcePair,
    clearly_apart,
    confounding_of_labels,
    cramers_v,
    cross_table,
    falls,
    find_confounding,
    table_flags,
    within_source,
)
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.predictability import Predictability
from hilum.evaluation.ranks import auroc
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream

FEW = Resampling(resamples=60)


def labels(
    plan: dict[tuple[str, str], int], group: str = "source"
) -> tuple[np.ndarray, dict[str, list[str]], list[str]]:
    """Films by (finding, level), each of its own patient."""
    names = [finding for (finding, _), n in plan.items() for _ in range(n)]
    levels = [level for (_, level), n in plan.items() for _ in range(n)]
    return CHEST.targets(names), {group: levels}, [f"p{i}" for i in range(len(names))]


def codes(plan: dict[tuple[str, str], int], group: str = "source") -> dict[str, str]:
    targets, groups, owners = labels(plan, group)
    found = confounding_of_labels(CHEST, targets, {"source": ["h"] * len(owners), **groups}, owners)
    return {flag.code: flag.sentence for flag in found.flags if flag.group == group}


BALANCED = {(f, s): 40 for f in CHEST.names for s in ("a", "b")}


def test_a_class_from_one_source_is_red_and_named() -> None:
    targets, groups, owners = labels(
        {("normal", "nih"): 90, ("pneumonia", "nih"): 60, ("pneumonia", "cohen"): 9, ("covid-19", "cohen"): 50}
    )
    flags = confounding_of_labels(CHEST, targets, groups, owners).flags
    (flag,) = [flag for flag in flags if flag.code == "single-source" and flag.finding == "covid-19"]
    assert (flag.severity, flags[0].severity) == ("red", "red")
    assert flag.sentence == (
        "Every covid-19 film comes from source 'cohen', so this test can't tell whether the model sees the disease or "
        "the source."
    )


def test_balanced_sources_raise_no_flag() -> None:
    assert codes(BALANCED) == {}


def test_a_class_from_sources_that_are_not_recorded_is_named_so() -> None:
    plan = {("normal", "a"): 60, ("pneumonia", "a"): 60, ("covid-19", ""): 40}
    assert "Every covid-19 film comes from a source that is not recorded" in codes(plan)["single-source"]


def test_few_films_of_one_source_may_be_chance_and_are_amber() -> None:
    plan = {
        ("normal", "a"): 30,
        ("normal", "b"): 30,
        ("pneumonia", "a"): 30,
        ("pneumonia", "b"): 30,
        ("covid-19", "b"): 3,
    }
    sentence = codes(plan)["single-source-few"]
    assert sentence.startswith("All 3 patients with covid-19 come from source 'b'; they are too few to say")


def test_a_class_nearly_from_one_level_is_named_with_its_counts() -> None:
    plan = {
        ("normal", "a"): 27,
        ("normal", "b"): 3,
        ("pneumonia", "a"): 75,
        ("pneumonia", "b"): 175,
        ("covid-19", "a"): 75,
        ("covid-19", "b"): 175,
    }
    sentence = codes(plan)["nearly-single"]
    assert sentence.startswith("27 of 30 patients with normal come from source 'a', but only 150 of 500 others do")


def test_strong_association_with_the_source_is_red_and_stands_for_its_parts() -> None:
    plan = {
        ("normal", "a"): 96,
        ("normal", "b"): 4,
        ("pneumonia", "a"): 95,
        ("pneumonia", "b"): 5,
        ("covid-19", "a"): 5,
        ("covid-19", "b"): 95,
    }
    targets, groups, owners = labels(plan)
    flags = confounding_of_labels(CHEST, targets, groups, owners).flags
    assert [(flag.severity, flag.code) for flag in flags] == [("red", "association")]
    assert "Label and source go together (Cramér's V 0.8" in flags[0].sentence


def test_a_class_of_one_view_is_amber() -> None:
    plan = {
        ("normal", "PA"): 60,
        ("normal", "AP"): 20,
        ("pneumonia", "PA"): 50,
        ("pneumonia", "AP"): 30,
        ("covid-19", "AP"): 40,
    }
    assert "Every covid-19 film has view 'AP', so this test can't tell" in codes(plan, "view_position")["single-level"]


def test_an_association_by_missing_values_says_so() -> None:
    plan = {("normal", ""): 90, ("normal", "F"): 5, ("normal", "M"): 5, ("covid-19", "F"): 50, ("covid-19", "M"): 50}
    assert "chiefly by whether it is recorded" in codes(plan, "sex")["association"]


def test_what_is_recorded_for_no_film_is_said() -> None:
    assert codes({("normal", ""): 5, ("covid-19", ""): 5})["not-recorded"].startswith(
        "The source of every film is not recorded"
    )
    assert codes({("normal", ""): 5, ("covid-19", ""): 5}, "sex")["not-recorded"].startswith("The sex of every film")


def test_one_source_for_all_films_is_a_note_not_an_alarm() -> None:
    targets, groups, owners = labels({("normal", "a"): 20, ("covid-19", "a"): 20})
    (flag,) = confounding_of_labels(CHEST, targets, groups, owners).flags
    assert (flag.severity, flag.code) == ("note", "one-source")


def test_sources_that_were_not_given_are_amber() -> None:
    (flag,) = confounding_of_labels(CHEST, CHEST.targets(["normal", "covid-19"]), {}, ["p", "q"]).flags
    assert (flag.severity, flag.code) == ("amber", "source-unknown")


def test_a_device_that_follows_its_source_is_not_said_twice(make: Callable[..., Predictions]) -> None:
    flags = find_confounding(make(300, confounded=True), settings=FEW).flags
    assert any(flag.code == "single-source" for flag in flags)
    assert not [flag for flag in flags if flag.group == "device"]


def test_clean_cohorts_raise_few_false_alarms(make: Callable[..., Predictions]) -> None:
    alarms = 0
    for seed in range(40):
        films = make(120, seed=seed)
        found = confounding_of_labels(films.findings, films.targets, films.groups, films.patient_ids)
        alarms += any(flag.severity != "note" for flag in found.flags)
    assert alarms <= 2  # 1 % a cohort by design


def test_cross_table_counts_films_and_patients_by_hand() -> None:
    table = cross_table(
        "source", ["a", "a", "", "b", "a"], np.array([0, 0, 1, 1, 1]), ("x", "y"), ["p", "p", "q", "r", "p"]
    )
    assert table.levels == ("a", "b", "not recorded")
    assert table.films == ((2, 1), (0, 1), (0, 1))
    assert table.patients == ((1, 1), (0, 1), (0, 1))


def test_cramers_v_agrees_with_scipy_where_the_correction_vanishes() -> None:
    counts = np.array([[3000, 1000, 500], [500, 2500, 1500]])
    v, p = cramers_v(counts)
    assert v == pytest.approx(association(counts, method="cramer"), abs=1e-3)
    assert p == pytest.approx(chi2_contingency(counts, correction=False).pvalue, abs=1e-12)
    small = np.array([[6, 2, 1], [3, 5, 4]])
    assert cramers_v(small)[1] == pytest.approx(chi2_contingency(small, correction=False).pvalue)


def test_cramers_v_of_independence_is_near_zero_and_of_one_row_is_nan() -> None:
    assert cramers_v(np.array([[50, 50], [50, 50]]))[0] == 0
    assert cramers_v(np.array([[50, 0], [0, 50]]))[0] == pytest.approx(1, abs=0.01)
    assert np.isnan(cramers_v(np.array([[5, 5]]))).all()


def test_within_source_figures_agree_with_an_auroc_of_those_films(make: Callable[..., Predictions]) -> None:
    films = make(240)
    pairs = within_source(films, FEW)
    (found,) = [p for p in pairs if p.source == "hospital-a" and (p.first, p.second) == ("covid-19", "pneumonia")]
    classes = films.targets.argmax(axis=1)
    rows = (np.array(films.groups["source"]) == "hospital-a") & (classes > 0)
    expected = auroc((films.logits[:, 2] - films.logits[:, 1])[rows], classes[rows] == 2)
    assert found.auroc.value == pytest.approx(expected)
    assert found.films == (int((rows & (classes == 2)).sum()), int((rows & (classes == 1)).sum()))
    assert [p.source for p in pairs][:3] == [ALL_SOURCES] * 3


def test_one_source_has_no_within_source_figures(make: Callable[..., Predictions]) -> None:
    assert within_source(make(60, sources=("a", "a")), FEW) == ()


def test_a_pair_with_too_few_patients_is_not_estimable_and_names_the_short_side() -> None:
    rng = stream(0, "few")
    classes = np.array([2] * 40 + [1] * 44)
    sources = ["b"] * 40 + ["a"] * 40 + ["b"] * 4
    films = Predictions(
        findings=CHEST,
        film_ids=tuple(map(str, range(84))),
        patient_ids=tuple(map(str, range(84))),
        logits=rng.normal(size=(84, 3)),
        probs=np.full((84, 3), 1 / 3),
        targets=np.eye(3)[classes],
        groups={"source": tuple(sources)},
    )
    found = next(p for p in within_source(films, FEW) if p.source == "b")
    assert found.auroc.reason == "Only 4 patients with pneumonia; a ranking needs at least 5."


def test_nan_logits_inside_a_source_are_not_ranked(make: Callable[..., Predictions]) -> None:
    films = make(60)
    films.logits[:] = np.nan
    assert "have no score (NaN)" in within_source(films, FEW)[0].auroc.reason


def pair(source: str, value: float) -> SourcePair:
    estimate = Estimate(value=value, low=value - 0.04, high=value + 0.03, n=100)
    return SourcePair(source=source, first="covid-19", second="pneumonia", films=(50, 50), auroc=estimate)


def test_a_pair_that_falls_inside_a_source_is_named() -> None:
    (flag,) = falls([pair(ALL_SOURCES, 0.94), pair("cohen", 0.72), pair("nih", 0.93)])
    assert flag.severity == "red"
    assert flag.sentence == (
        "covid-19 against pneumonia reaches AUROC 0.94 (0.90–0.97) over all sources, but 0.72 (0.68–0.75) inside "
        "source 'cohen', so the first figure owes much to the source."
    )
    assert falls([pair(ALL_SOURCES, 0.94), pair("cohen", 0.86)])[0].severity == "amber"


@pytest.mark.parametrize(
    ("value", "confounded", "severity"),
    [(0.96, True, "red"), (0.8, True, "amber"), (0.6, True, "note"), (0.96, False, "note")],
)
def test_a_source_that_features_show_matters_when_the_label_goes_with_it(
    make: Callable[..., Predictions], value: float, confounded: bool, severity: str
) -> None:
    asked = Predictability(group="source", levels=("a", "b"), auroc=Estimate(value=value, low=value, high=value))
    found = find_confounding(make(240, confounded=confounded), predictable=[asked], settings=FEW)
    flag = next(flag for flag in found.flags if flag.code == "group-predictable")
    assert flag.severity == severity
    assert f"(AUROC {asked.auroc.text()})" in flag.sentence


def test_lengths_that_disagree_are_refused() -> None:
    with pytest.raises(DataError, match="Labels of 2 films: source has 1 values. Give one a film"):
        confounding_of_labels(CHEST, CHEST.targets(["normal", "covid-19"]), {"source": ["a"]}, ["p", "q"])


def test_no_labelled_film_gives_no_table(make: Callable[..., Predictions]) -> None:
    films = make(6)
    found = find_confounding(replace(films, targets=np.full((6, 3), np.nan)), settings=FEW)
    assert (found.tables, found.within_source) == ((), ())


def test_a_table_of_one_finding_has_nothing_to_confound() -> None:
    table = cross_table("source", ["a", "b"] * 20, np.zeros(40, dtype=int), CHEST.names, [f"p{i}" for i in range(40)])
    assert table_flags(table) == []


def test_the_real_chest_films_are_red_because_covid_comes_from_one_source(shared_data: Path) -> None:
    manifest = shared_data / "chest" / "manifest.csv"
    if not manifest.exists():
        pytest.skip(f"no chest films at {manifest.parent}")
    with manifest.open() as handle:
        rows = list(csv.DictReader(handle))
    groups = {"source": [row["source"] for row in rows], "sex": [row["sex"] for row in rows]}
    targets = CHEST.targets([row["label"] for row in rows])
    found = confounding_of_labels(CHEST, targets, groups, [row["patient_id"] for row in rows])
    red = {flag.code for flag in found.flags if flag.severity == "red"}
    assert red == {"single-source", "association"}
    assert found.flags[0].sentence.startswith("Every covid-19 film comes from source 'cohen'")


def test_a_finding_of_one_source_is_named_with_its_figure_inside_that_source(make: Callable[..., Predictions]) -> None:
    flags = find_confounding(make(240, skill=2.0, confounded=True), settings=Resampling(resamples=60)).flags
    inside = [flag for flag in flags if flag.code == "inside-source"]
    assert {flag.finding for flag in inside} == {"covid-19"}
    assert {flag.severity for flag in inside} == {"red"}
    for other in ("normal", "pneumonia"):
        assert any(
            flag.sentence.startswith(
                f"Inside source 'hospital-b', where the source can't help, covid-19 against {other} has AUROC "
            )
            for flag in inside
        )
    assert not [flag for flag in find_confounding(make(240)).flags if flag.code == "inside-source"]


def test_clearly_apart_by_hand() -> None:
    """Standard errors 0.0255 and 0.051 from the intervals, 0.057 together: 0.2 is 3.5 of them."""
    high, low = Estimate(value=0.9, low=0.85, high=0.95), Estimate(value=0.7, low=0.6, high=0.8)
    assert clearly_apart(high, low, chance=0.01)
    assert not clearly_apart(high, low, chance=0.0001)
    assert not clearly_apart(low, high, chance=0.01)
    assert not clearly_apart(high, replace(low, high=0.86), chance=0.01)
    assert not clearly_apart(high, low, chance=0.01, level=0.5)
