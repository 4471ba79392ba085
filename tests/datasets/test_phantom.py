"""The plan and the pixels of phantom films: reproducible, balanced, with lesions where they belong."""

import dataclasses
import functools
from collections import Counter

import numpy as np
import pytest

from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import DEVICES, MARKER_STYLES, PhantomConfig
from hilum.datasets.phantom.detector import store, stored_range, window
from hilum.datasets.phantom.frame import Frame, double, noise
from hilum.datasets.phantom.lesions import LOBES
from hilum.datasets.phantom.rendering import render
from hilum.errors import ConfigError
from hilum.labels import CHEST

SMALL = PhantomConfig(patients=36, size=128, seed=5)


@pytest.fixture(scope="module")
def films():
    """Plans of a small cohort and their films."""
    plans = plan_cohort(SMALL)
    return plans, [render(plan) for plan in plans]


def _first(label, config=SMALL):
    return next(plan for plan in plan_cohort(config) if plan.label == label)


# The plan.


def test_the_same_config_gives_the_same_plan():
    assert plan_cohort(SMALL) == plan_cohort(PhantomConfig(patients=36, size=128, seed=5))


def test_every_patient_has_one_film_or_two():
    counts = Counter(plan.patient for plan in plan_cohort(PhantomConfig()))
    assert set(counts) == set(range(400))
    assert set(counts.values()) == {1, 2}
    assert sum(count == 2 for count in counts.values()) == pytest.approx(100, abs=26)


def test_findings_are_equally_frequent_in_both_hospitals():
    patients = {plan.patient: (plan.hospital, plan.label) for plan in plan_cohort(PhantomConfig(patients=600))}
    assert set(Counter(patients.values()).values()) == {100}


@pytest.mark.parametrize("fact", ["hospital", "sex", "view", "age_years", "marker", "film", "acquired"])
def test_nothing_in_the_header_tells_the_finding(fact):
    """Each finding has nearly the same counts of every value of a fact; ages and dates in three bands."""
    plans = plan_cohort(PhantomConfig(patients=600))
    values = [getattr(plan, fact) for plan in plans]
    if fact in ("age_years", "acquired"):
        values = np.argsort(np.argsort([str(value) for value in values], kind="stable")) * 3 // len(values)
    table = Counter(zip(map(str, values), [plan.label for plan in plans], strict=True))
    totals = Counter(plan.label for plan in plans)
    for value in {value for value, _ in table}:
        shares = [table[value, label] / totals[label] for label in CHEST.names]
        # Drawn facts vary by chance: three standard errors of a difference between shares of 250 films.
        assert max(shares) - min(shares) < 0.13, (value, shares)


def test_a_header_only_model_is_at_chance():
    """Least squares on everything but the pixels, in five folds of patients, ranks films no better than chance."""
    plans = plan_cohort(PhantomConfig(patients=600))
    facts = np.array([_header_facts(plan) for plan in plans], dtype=float)
    truth = np.array([CHEST.index(plan.label) for plan in plans])
    fold = np.array([plan.patient % 5 for plan in plans])
    for finding in range(3):
        scores = np.zeros(len(plans))
        for part in range(5):
            fit = fold != part
            weights, *_ = np.linalg.lstsq(facts[fit], (truth[fit] == finding).astype(float), rcond=None)
            scores[fold == part] = facts[fold == part] @ weights
        sick, well = scores[truth == finding], scores[truth != finding]
        auroc = (sick[:, None] > well).mean() + 0.5 * (sick[:, None] == well).mean()
        assert auroc == pytest.approx(0.5, abs=0.08)


def _header_facts(plan):
    age, day = plan.age_years / 90, plan.acquired.toordinal() % 365 / 365
    marker = [plan.marker == style for style in MARKER_STYLES]
    return [1, plan.hospital == "hospital-a", plan.sex == "F", plan.view == "PA", age, age**2, plan.film, day, *marker]


def test_a_planted_shortcut_makes_the_marker_follow_the_finding():
    plans = plan_cohort(PhantomConfig(patients=60, shortcut=1.0))
    assert all(plan.marker == MARKER_STYLES[CHEST.index(plan.label)] for plan in plans)


def test_patients_keep_sex_age_finding_and_hospital_between_films():
    seen = {}
    for plan in plan_cohort(PhantomConfig(patients=100)):
        facts = (plan.sex, plan.age_years, plan.label, plan.hospital)
        assert seen.setdefault(plan.patient, facts) == facts
        assert plan.age_years >= 18


def test_wrong_fields_are_reported_at_once():
    with pytest.raises(ConfigError) as raised:
        PhantomConfig(patients=0, size=70, difficulty=0, hospitals=("a", "a/b"), shortcut=2, second_film_share=-1)
    text = str(raised.value)
    assert len(raised.value.problems) == 6
    assert "patients is 0, but a cohort needs at least one" in text
    assert "size is 70, but a film needs 64 rows or more, divisible by four" in text
    assert "difficulty is 0, but must be above 0" in text
    assert "hospital 'a/b' can't name a folder" in text
    assert "shortcut is 2, but must be within" in text
    assert "second_film_share is -1, but must be within" in text


def test_a_cohort_without_distinct_hospitals_is_refused():
    with pytest.raises(ConfigError, match="needs one or more distinct names"):
        PhantomConfig(hospitals=("a", "a"))


# The pixels.


def test_a_film_depends_on_its_plan_alone(films):
    plans, drawn = films
    again = render(plans[3])
    assert np.array_equal(again.pixels, drawn[3].pixels)
    assert np.array_equal(again.lesion, drawn[3].lesion)


def test_films_are_float32_from_black_to_white(films):
    for plan, film in zip(*films, strict=True):
        assert film.pixels.shape == film.lesion.shape == film.lungs.shape == (plan.rows, plan.columns)
        assert film.pixels.dtype == np.float32
        assert film.pixels.min() >= 0
        assert film.pixels.max() <= 1
        assert film.pixels.std() > 0.1


def test_normal_films_have_no_lesion_and_abnormal_films_have_one_inside_the_lungs(films):
    for plan, film in zip(*films, strict=True):
        assert film.lesion.any() == (plan.label != "normal")
        assert not (film.lesion & ~film.lungs).any()
        if plan.label != "normal":
            assert 0.003 < film.lesion.sum() / film.lungs.sum() < 0.7


def test_lungs_are_darker_than_the_heart_between_them(films):
    for film in films[1]:
        rows, columns = np.nonzero(film.lungs)
        low = rows > np.quantile(rows, 0.6)
        middle = round(columns.mean())
        between = film.pixels[rows[low].min() : rows[low].max(), middle - 4 : middle + 4]
        assert film.pixels[film.lungs].mean() < between.mean() - 0.1


def test_a_lesion_is_brighter_than_the_same_film_without_it():
    for label in ("pneumonia", "covid-19"):
        plan = _first(label)
        sick, well = render(plan), render(dataclasses.replace(plan, label="normal"))
        gain = sick.pixels - well.pixels
        assert gain[sick.lesion].mean() > 0.03
        outside = ~sick.lungs
        assert abs(gain[outside]).mean() < 0.2 * gain[sick.lesion].mean()


def test_covid_lies_on_both_sides_and_mostly_outside_and_below(films):
    """Ground glass is bilateral, peripheral and lower-zone predominant; a consolidation is on one side."""
    outer, lower = [], []
    for plan, film in zip(*films, strict=True):
        if plan.label == "normal":
            continue
        columns = np.nonzero(film.lungs.any(axis=0))[0]
        middle = (columns.min() + columns.max()) // 2
        left, right = film.lesion[:, :middle].sum(), film.lesion[:, middle:].sum()
        if plan.label == "pneumonia":
            assert min(left, right) < 0.05 * max(left, right)
            continue
        assert min(left, right) > 0.02 * max(left, right)
        rows, across = np.nonzero(film.lesion)
        lung_rows, lung_across = np.nonzero(film.lungs)
        outer.append(np.abs(across - middle).mean() / np.abs(lung_across - middle).mean())
        lower.append(rows.mean() - lung_rows.mean())
    assert np.mean(outer) > 1.15
    assert np.mean(lower) > 0


def test_difficulty_makes_lesions_fainter():
    def gain(difficulty):
        plan = dataclasses.replace(_first("pneumonia"), difficulty=difficulty)
        sick, well = render(plan), render(dataclasses.replace(plan, label="normal"))
        return float((sick.pixels - well.pixels)[sick.lesion].mean())

    assert gain(0.6) > gain(1.0) > gain(2.0) > 0


def test_every_lobe_occurs():
    """Lesions of many patients cover both sides and both upper and lower parts."""
    places = set()
    config = PhantomConfig(patients=72, size=64, seed=1)
    for plan in plan_cohort(config):
        if plan.label == "pneumonia" and plan.film == 0:
            film = render(plan)
            assert film.lesion.any()
            rows, columns = np.nonzero(film.lungs)
            r, c = np.nonzero(film.lesion)
            places.add((bool(r.mean() > rows.mean()), bool(c.mean() > columns.mean())))
    assert places == {(False, False), (False, True), (True, False), (True, True)}
    assert len(LOBES) == 6


def test_two_films_of_a_patient_show_the_same_lesion_in_another_pose():
    plans = plan_cohort(PhantomConfig(patients=90, size=128, seed=2))
    second = next(plan for plan in plans if plan.film == 1 and plan.label == "pneumonia")
    first = next(plan for plan in plans if plan.patient == second.patient and plan.film == 0)
    a, b = render(first), render(second)
    assert not np.array_equal(a.pixels, b.pixels)
    centre = [np.nonzero(film.lesion)[1].mean() / film.lesion.shape[1] for film in (a, b)]
    assert (centre[0] < 0.5) == (centre[1] < 0.5)


# The detector.


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.model)
def test_stored_values_and_window_bring_the_film_back(device):
    film = np.linspace(0, 1, 101, dtype=np.float32)[None].repeat(2, 0)
    stored = store(device, film)
    centre, width = window(device)
    assert stored.dtype == np.uint16
    assert int(stored.max()) < 1 << device.bits_stored
    shown = np.clip((stored - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    shown = 1 - shown if device.photometric == "MONOCHROME1" else shown
    black, white = stored_range(device)
    assert shown == pytest.approx(film, abs=1.5 / (white - black))


def test_devices_differ_in_polarity_depth_and_sharpness():
    assert {device.photometric for device in DEVICES} == {"MONOCHROME1", "MONOCHROME2"}
    assert len({device.bits_stored for device in DEVICES}) == 2
    assert len({device.softening for device in DEVICES}) == 2


# The frame.


def test_points_and_coordinates_agree():
    """A pixel's patient coordinates, drawn back, give the pixel."""
    frame = Frame(rows=64, columns=48, zoom=0.9, turn=0.1, shift=(0.05, -0.1))
    u, v = frame.coordinates(2)
    points = np.array([[u[10, 7], v[10, 7]], [u[30, 20], v[30, 20]]], dtype=float)
    assert np.array(frame.pixels(points, 2)) == pytest.approx(np.array([[7.5, 10.5], [20.5, 30.5]]), abs=1e-4)


def test_doubling_keeps_a_ramp_and_a_constant():
    ramp = np.arange(8, dtype=np.float32)[None].repeat(4, 0)
    doubled = double(ramp)
    assert doubled.shape == (8, 16)
    assert doubled[3, 1:-1] == pytest.approx(np.arange(14) / 2 + 0.25)
    assert double(np.full((3, 5), 2, dtype=np.float32)) == pytest.approx(np.full((6, 10), 2))


@pytest.mark.parametrize("kind", ["white", "grain", "tissue"])
def test_noise_has_unit_deviation_and_no_mean(kind):
    field = noise(kind, np.random.default_rng(0), (512, 512))
    assert field.std() == pytest.approx(1, abs=0.1)
    assert field.mean() == pytest.approx(0, abs=0.15)


def test_noise_larger_than_its_tile_repeats():
    field = noise("white", np.random.default_rng(0), (1030, 1200))
    assert field.shape == (1030, 1200)


# The task.


def test_a_linear_model_on_few_pixels_does_not_solve_the_default_task():
    """Ridge regression on 32 × 32 pixels, three folds of 90 patients: far from solved, better when plain."""
    assert _linear_auroc(1.0) < 0.8
    assert _linear_auroc(0.4) > _linear_auroc(1.0) + 0.05


@functools.cache
def _linear_auroc(difficulty):
    config = PhantomConfig(patients=90, size=64, difficulty=difficulty)
    plans = [plan for plan in plan_cohort(config) if plan.film == 0]
    films = np.stack([_small(render(plan).pixels) for plan in plans])
    truth = np.array([CHEST.index(plan.label) for plan in plans])
    fold, scores = np.arange(len(plans)) % 3, np.zeros((len(plans), 3))
    for part in range(3):
        fit, test = films[fold != part], films[fold == part]
        wanted = np.eye(3)[truth[fold != part]] - 1 / 3
        scores[fold == part] = test @ fit.T @ np.linalg.solve(fit @ fit.T + 300 * np.eye(len(fit)), wanted)
    return np.mean([(scores[truth == k, k][:, None] > scores[truth != k, k]).mean() for k in range(3)])


def _small(pixels):
    """32 × 32 area means, centred and scaled."""
    rows, columns = (np.linspace(0, extent, 33).astype(int)[:-1] for extent in pixels.shape)
    means = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), columns, axis=1).ravel()
    return (means - means.mean()) / means.std()
