"""DeLong's variance agrees with the published example, with scipy, with counting pairs, and covers what it says."""

import math

import numpy as np
import pytest
from scipy import stats

from hilum.errors import DataError
from hilum.evaluation.delong import auroc_covariance, delong, delong_test, midranks, placements
from hilum.evaluation.intervals import wilson_interval
from hilum.evaluation.ranks import auroc
from hilum.randomness import stream

# DeLong, DeLong and Clarke-Pearson 1988: 43 complete patients with ovarian cancer and bowel obstruction. Albumin, total
# protein, K-G score, and whether surgery helped; printed with the example in the SAS/STAT guide (PROC LOGISTIC).
PRINTED = """
    3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
    3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
    2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
    3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
    3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
    3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
OVARIAN = np.array(PRINTED.split(), dtype=float).reshape(-1, 4)
HELPED = OVARIAN[:, 3] == 1
ALBUMIN, PROTEIN, KG = OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]


def test_areas_and_standard_errors_of_the_published_example() -> None:
    areas, covariance = auroc_covariance(np.array([ALBUMIN, PROTEIN, KG]), HELPED)
    np.testing.assert_allclose(areas, [0.7366, 0.6478, 0.7258], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [0.0927, 0.1000, 0.1028], atol=5e-5)


@pytest.mark.parametrize(
    ("scores", "difference", "low", "high", "chi2", "p"),
    [(ALBUMIN, 0.0108, -0.1761, 0.1976, 0.0127, 0.9102), (PROTEIN, -0.0780, -0.2830, 0.1271, 0.5554, 0.4561)],
    ids=["albumin", "protein"],
)
def test_contrasts_of_the_published_example(
    scores: np.ndarray, difference: float, low: float, high: float, chi2: float, p: float
) -> None:
    found = delong_test(scores, KG, HELPED)
    assert found.difference.value == pytest.approx(difference, abs=5e-5)
    assert found.difference.interval == pytest.approx((low, high), abs=1e-4)
    assert found.z**2 == pytest.approx(chi2, abs=1e-4)
    assert found.p == pytest.approx(p, abs=1e-4)


def test_the_plain_interval_of_the_published_example() -> None:
    found = delong(ALBUMIN, HELPED, scale="plain")
    assert found.interval == pytest.approx((0.5549, 0.9182), abs=1e-4)
    assert (found.n, found.patients, found.method) == (43, 43, "DeLong")


def test_midranks_agree_with_scipy() -> None:
    values = stream(0, "midranks").integers(0, 9, 60).astype(float)
    np.testing.assert_allclose(midranks(values), stats.rankdata(values))


def test_the_variance_agrees_with_counting_every_pair() -> None:
    """DeLong's definition, without ranks: placements from all pairs, then the variance of each side over its films."""
    rng = stream(1, "pairs")
    positive = rng.random(40) < 0.4
    scores = np.round(rng.normal(size=40) + positive, 1)
    won = np.sign(scores[positive][:, None] - scores[~positive]) / 2 + 0.5
    of_positives, of_negatives = placements(scores, positive)
    np.testing.assert_allclose(of_positives, won.mean(axis=1))
    np.testing.assert_allclose(of_negatives, won.mean(axis=0))
    areas, covariance = auroc_covariance(scores[None], positive)
    assert areas[0] == pytest.approx(auroc(scores, positive))
    expected = won.mean(axis=1).var(ddof=1) / positive.sum() + won.mean(axis=0).var(ddof=1) / (~positive).sum()
    assert covariance[0, 0] == pytest.approx(expected)


def test_the_logit_interval_is_the_plain_one_on_the_logit_scale() -> None:
    plain = delong(ALBUMIN, HELPED, scale="plain")
    error = (plain.high - plain.value) / stats.norm.ppf(0.975)
    a = plain.value
    centre, half = math.log(a / (1 - a)), stats.norm.ppf(0.975) * error / (a * (1 - a))
    expected = tuple(1 / (1 + math.exp(-bound)) for bound in (centre - half, centre + half))
    assert delong(ALBUMIN, HELPED).interval == pytest.approx(expected)


def test_copies_of_films_do_not_narrow_the_interval_when_they_belong_to_one_patient() -> None:
    ids = np.repeat(np.arange(43), 3)
    once = delong(ALBUMIN, HELPED)
    copied = delong(np.repeat(ALBUMIN, 3), np.repeat(HELPED, 3), ids)
    blind = delong(np.repeat(ALBUMIN, 3), np.repeat(HELPED, 3))
    assert copied.interval == pytest.approx(once.interval)
    assert (copied.n, copied.patients) == (129, 43)
    assert blind.high - blind.low < 0.7 * (once.high - once.low)


@pytest.mark.parametrize(("mixed", "patients"), [(False, 80), (True, 60)], ids=["own class", "patients of both"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(mixed: bool, patients: int) -> None:
    """Binormal scores with an effect of the patient; films of one patient share it, and may show both classes."""
    truth, rng, covered = stats.norm.cdf(1 / math.sqrt(2)), stream(0, "delong"), 0
    owner = np.repeat(np.arange(patients), 2)
    positive = np.arange(len(owner)) % 2 == 0 if mixed else owner % 2 == 0
    for _ in range(400):
        noise = np.sqrt(0.5) * (rng.normal(size=patients)[owner] + rng.normal(size=len(owner)))
        found = delong(noise + positive, positive, owner, level=0.9)
        covered += found.low <= truth <= found.high
    assert 0.86 <= covered / 400 <= 0.95  # 0.90 ± 3 standard errors


def test_the_test_rejects_equal_models_as_often_as_it_says() -> None:
    rng, rejected = stream(2, "delong"), 0
    positive = np.arange(120) < 50
    for _ in range(400):
        shared = rng.normal(size=120) + positive
        first, second = (shared + rng.normal(size=120) for _ in range(2))
        rejected += delong_test(first, second, positive).p < 0.1
    assert 0.06 <= rejected / 400 <= 0.145


def test_equal_models_have_a_difference_of_zero_and_no_interval() -> None:
    found = delong_test(ALBUMIN, ALBUMIN, HELPED)
    assert (found.first, found.difference.value) == (found.second, 0.0)
    assert found.difference.reason == "Both models place every film alike, so their difference has no spread."
    assert math.isnan(found.p)


def test_a_perfect_ranking_takes_wilson() -> None:
    positive = np.arange(30) >= 22
    found = delong(np.arange(30.0), positive)
    assert found.interval == pytest.approx(wilson_interval(1.0, 8))


def test_what_has_no_variance_says_why() -> None:
    few = np.array([True, True] + [False] * 20)
    scores = np.arange(22.0) % 7
    assert delong(scores, few, finding="x").reason == "Only 2 patients on one side of x; a ranking needs 5."
    assert delong(scores, np.zeros(22, bool), finding="x").reason == "No labelled film shows x."
    assert "1 of 22 films have no score" in delong(np.append(scores[:-1], np.nan), few).reason
    assert delong_test(scores, scores * 2, few, finding="x").difference.reason.startswith("Only 2 patients on one side")
    nothing = delong_test(scores, scores, np.ones(22, bool), finding="x")
    assert math.isnan(nothing.first)
    assert nothing.difference.reason == "Every labelled film shows x."


def test_scores_that_are_all_tied_are_chance_without_a_spread() -> None:
    found = delong(np.ones(40), np.arange(40) < 15)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_wrong_shapes_and_scales_are_refused() -> None:
    with pytest.raises(DataError, match=r"scores \[models, n\] and true or false labels \[n\], but got \(43,\)"):
        auroc_covariance(ALBUMIN, HELPED)
    with pytest.raises(DataError, match="Every labelled film shows the finding. So AUROC has no variance"):
        auroc_covariance(ALBUMIN[None], np.ones(43, bool))
    with pytest.raises(DataError, match="3 patient ids for 43 films"):
        auroc_covariance(ALBUMIN[None], HELPED, ["a", "b", "c"])
    with pytest.raises(DataError, match="The scale of DeLong's interval is 'log', but must be logit or plain"):
        delong(ALBUMIN, HELPED, scale="log")


@pytest.mark.long
@pytest.mark.parametrize("ill", [40, 15])
def test_the_interval_covers_over_many_draws(ill: int) -> None:
    """4,000 cohorts of 80 patients each, 95 % nominal: within 94–97 %, the logit scale being a little cautious."""
    truth, rng, covered = stats.norm.cdf(1 / math.sqrt(2)), stream(5, "delong", ill), 0
    positive = np.arange(80) < ill
    for _ in range(4000):
        found = delong(rng.normal(size=80) + positive, positive)
        covered += found.low <= truth <= found.high
    assert 0.935 <= covered / 4000 <= 0.975
