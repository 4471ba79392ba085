"""Figures by group are those of the group's films; a gap is named when it is real, and seldom when there is none."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hilum.evaluation.delong import delong
from hilum.evaluation.intervals import wilson_interval
from hilum.evaluation.subgroups import gaps, subgroups
from hilum.predictions import Predictions


def test_figures_are_those_of_the_films_of_the_level(make: Callable[..., Predictions]) -> None:
    films = make(240)
    found = {(one.group, one.level): one for one in subgroups(films)}
    assert ("sex", "not recorded") in found
    rows = np.flatnonzero(np.array(films.groups["sex"]) == "F")
    one, part = found["sex", "F"], films.select(rows)
    ill, said = part.targets[:, 2] == 1, part.probs.argmax(axis=1) == 2
    assert (one.films, one.patients) == (len(rows), len(set(part.patient_ids)))
    assert one.auroc["covid-19"] == delong(part.probs[:, 2], ill, part.patient_ids, finding="covid-19")
    assert one.sensitivity["covid-19"].value == pytest.approx(said[ill].mean())
    assert one.specificity["covid-19"].value == pytest.approx((~said)[~ill].mean())
    owners = len(set(np.array(part.patient_ids)[ill]))
    assert one.sensitivity["covid-19"].interval == pytest.approx(wilson_interval(said[ill].mean(), owners))


def test_a_group_of_one_level_or_of_very_many_is_left_out(make: Callable[..., Predictions]) -> None:
    films = make(120)
    even = replace(films, groups={"source": ("a",) * 120, "device": tuple(f"d{i // 2}" for i in range(120))})
    assert subgroups(even) == ()
    assert gaps(even) == ()


def test_what_can_not_be_measured_in_a_level_says_why(make: Callable[..., Predictions]) -> None:
    films = make(120)
    where = np.where((films.targets[:, 2] == 1) | (np.arange(120) < 60), "a", "b")
    one = {s.level: s for s in subgroups(replace(films, groups={"source": tuple(where.tolist())}))}["b"]
    assert one.auroc["covid-19"].reason == "No labelled film shows covid-19."
    assert one.sensitivity["covid-19"].reason == "No labelled film shows covid-19."
    assert one.specificity["covid-19"].estimable
    broken = replace(films, probs=np.where(np.arange(120)[:, None] == 3, np.nan, films.probs))
    bad = [s for s in subgroups(broken, groups=("view_position",)) if not s.sensitivity["normal"].estimable]
    assert len(bad) == 1
    assert "1 of" in bad[0].sensitivity["normal"].reason
    assert gaps(broken) == ()


def worse_in_b(films: Predictions, share: float) -> Predictions:
    """Scores of films of hospital-b are shuffled, in part."""
    rng = np.random.default_rng(0)
    rows = np.flatnonzero((np.array(films.groups["source"]) == "hospital-b") & (rng.random(len(films)) < share))
    probs = films.probs.copy()
    probs[rows] = probs[rng.permutation(rows)]
    return replace(films, probs=probs)


def test_a_real_gap_is_named_once(make: Callable[..., Predictions]) -> None:
    found = gaps(worse_in_b(make(900, per_patient=1), 0.8), groups=("source", "sex", "view_position"))
    assert {one.group for one in found} == {"source"}
    one = found[0]
    assert one.level == "hospital-a"  # of two levels the first stands for both
    assert one.inside > one.outside + 0.1
    assert one.tested == 3 * (1 + 3 + 1)  # findings × (source, three sexes with not recorded, view)
    assert "elsewhere (p < 0.001 after Holm's" in replace(one, p=3.9e-96).sentence
    assert "elsewhere (p = 0.012 after Holm's" in replace(one, p=0.0123).sentence


def test_small_and_easy_groups_keep_the_level_too(make: Callable[..., Predictions]) -> None:
    """Few patients and AUROCs near 1, where a test on the plain scale rejects too often."""
    named = 0
    for seed in range(150):
        films = make(90, seed=seed, per_patient=1, skill=2.5)
        named += bool(gaps(films, groups=("view_position",)))
    assert named <= 15  # 5 % of 150 is 7.5; three standard errors more


def test_where_there_is_no_gap_one_is_seldom_named(make: Callable[..., Predictions]) -> None:
    """Familywise 5 %: of 60 clean cohorts at most 8 (3 standard errors)."""
    named = sum(
        bool(gaps(make(300, seed=seed, per_patient=1), groups=("source", "view_position"))) for seed in range(60)
    )
    assert named <= 8
