"""The bootstrap resamples patients within their class; intervals cover what they say; a perfect score is not sure."""

import math
import time

import numpy as np
import pytest
from scipy import stats

from hilum.errors import ConfigError, DataError
from hilum.evaluation import intervals
from hilum.evaluation.intervals import (
    Cohort,
    Resampled,
    Resampling,
    acceleration,
    basic_interval,
    bca_interval,
    bootstrap,
    bootstrap_sums,
    jackknife,
    percentile_interval,
    proportion,
    ranked,
    wilson_interval,
)
from hilum.evaluation.ranks import Ranking
from hilum.randomness import stream


def test_wilson_agrees_with_scipy() -> None:
    for hits, n in ((0, 7), (3, 10), (10, 10), (81, 263)):
        expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert wilson_interval(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_nan() -> None:
    assert all(math.isnan(bound) for bound in wilson_interval(0.5, 0))


def test_films_of_one_patient_are_drawn_together() -> None:
    cohort = Cohort.of(["p", "p", "q", "q", "r"], np.zeros(5, dtype=int))
    seen = bootstrap(lambda weights: weights, cohort, Resampling(resamples=50))
    np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
    np.testing.assert_array_equal(seen[:, 2], seen[:, 3])
    assert seen.std() > 0


def test_each_class_keeps_its_number_of_patients() -> None:
    ids = [f"p{i}" for i in range(12)]
    classes = np.array([0] * 9 + [1] * 3)
    seen = bootstrap(lambda weights: weights, Cohort.of(ids, classes), Resampling(resamples=40))
    assert (seen[:, :9].sum(axis=1) == 9).all()
    assert (seen[:, 9:].sum(axis=1) == 3).all()


def test_a_patient_of_two_classes_counts_in_the_commoner_of_theirs_and_in_the_rarer_on_a_tie() -> None:
    cohort = Cohort.of(["p", "p", "p", "q", "q", "r", "s"], np.array([0, 0, 1, 0, 1, 0, 0]))
    assert cohort.stratum.tolist() == [0, 1, 0, 0]


def test_resampling_is_reproducible_and_depends_on_the_seed() -> None:
    cohort = Cohort.of([f"p{i}" for i in range(30)], np.zeros(30, dtype=int))
    first, again, other = (bootstrap(lambda w: w[:, :3], cohort, Resampling(seed=s, resamples=20)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_duplicating_every_film_of_every_patient_leaves_the_interval_as_it_is() -> None:
    rng = stream(0, "duplication")
    ids, positive = [f"p{i}" for i in range(60)], np.arange(60) % 2 == 0
    scores = rng.normal(size=60) + positive
    settings = Resampling(resamples=100)

    def interval(copies: int) -> tuple[float, float]:
        s, p = np.repeat(scores, copies), np.repeat(positive, copies)
        cohort = Cohort.of([i for i in ids for _ in range(copies)], p.astype(int))
        return percentile_interval(bootstrap(Ranking.of(s, p).auroc, cohort, settings)[:, 0], 0.95)

    assert interval(1) == pytest.approx(interval(3), abs=1e-12)


def test_bootstrap_interval_of_auroc_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = stats.norm.cdf(1 / math.sqrt(2))  # binormal, one standard deviation apart
    rng, covered = stream(0, "coverage"), 0
    for draw in range(200):
        positive = np.arange(80) < 40
        ranking = Ranking.of(rng.normal(size=80) + positive, positive)
        cohort = Cohort.of([str(i) for i in range(80)], positive.astype(int))
        low, high = percentile_interval(
            bootstrap(ranking.auroc, cohort, Resampling(seed=draw, resamples=200))[:, 0], 0.9
        )
        covered += low <= truth <= high
    assert 0.83 <= covered / 200 <= 0.96  # 0.90 ± 3.3 standard errors, less a little undercoverage


def test_intervals_by_patient_are_wider_than_by_film_when_films_repeat() -> None:
    rng = stream(1, "clusters")
    hits = np.repeat(rng.random(40) < 0.7, 5)
    shares = lambda weights: weights @ hits / weights.sum(axis=1)  # noqa: E731
    by_patient = Cohort.of([f"p{i // 5}" for i in range(200)], np.zeros(200, dtype=int))
    by_film = Cohort.of([f"p{i}" for i in range(200)], np.zeros(200, dtype=int))
    widths = [
        np.ptp(percentile_interval(bootstrap(shares, cohort, Resampling(resamples=300))[:, 0], 0.95))
        for cohort in (by_patient, by_film)
    ]
    assert widths[0] > 1.7 * widths[1]


def test_2000_resamples_of_10000_films_take_a_few_seconds_at_most() -> None:
    rng = stream(0, "speed")
    positive = rng.random(10_000) < 0.3
    ranking = Ranking.of(rng.normal(size=10_000) + positive, positive)
    cohort = Cohort.of([f"p{i // 2}" for i in range(10_000)], positive.astype(int))
    started = time.process_time()
    bootstrap(ranking.auroc, cohort, Resampling(resamples=2000))
    assert time.process_time() - started < 5


def test_a_perfect_proportion_takes_wilson_over_patients() -> None:
    found = proportion(1.0, np.ones(100), n=90, patients=30, level=0.95)
    assert (found.low, found.high) == pytest.approx(wilson_interval(1.0, 30))
    assert found.method == "wilson, patients as trials"


def test_a_proportion_with_many_patients_takes_the_bootstrap() -> None:
    found = proportion(0.5, np.linspace(0.4, 0.6, 101), n=90, patients=30, level=0.9)
    assert (found.low, found.high) == pytest.approx((0.41, 0.59))
    assert found.method == "bootstrap by patient"


def test_a_proportion_without_a_value_keeps_its_reason() -> None:
    found = proportion(math.nan, np.array([np.nan]), n=0, patients=0, level=0.95, reason="Nothing there.")
    assert not found.estimable
    assert found.reason == "Nothing there."


def test_a_ranking_of_two_positive_patients_is_not_estimable() -> None:
    found = ranked(0.9, np.full(50, 0.9), n=30, sides=(2, 20), level=0.95, finding="covid-19")
    assert not found.estimable
    assert found.reason == "Only 2 patients with covid-19; a ranking needs at least 5."
    few = ranked(0.9, np.full(50, 0.9), n=30, sides=(20, 1), level=0.95, finding="covid-19")
    assert few.reason == "Only 1 patient without covid-19; a ranking needs at least 5."


def test_a_perfect_ranking_is_no_certainty() -> None:
    found = ranked(1.0, np.ones(50), n=40, sides=(8, 30), level=0.95, finding="x")
    assert (found.low, found.high) == pytest.approx(wilson_interval(1.0, 8))


def test_resamples_without_a_value_take_the_interval_away_and_say_so() -> None:
    samples = np.where(np.arange(100) < 10, np.nan, 0.7)
    found = ranked(0.7, samples, n=40, sides=(8, 30), level=0.95, finding="x")
    assert found.estimable
    assert not found.bounded
    assert found.reason == "Over 5 % of the resamples have no value."


def test_the_reflected_interval_mirrors_the_percentile_one_and_stops_at_its_floor() -> None:
    assert basic_interval(0.10, np.linspace(0.08, 0.16, 101), 1 - 1e-9) == pytest.approx((0.04, 0.12))
    assert basic_interval(0.02, np.linspace(0.01, 0.16, 101), 0.99)[0] == 0.0


def test_settings_that_make_no_interval_are_refused_all_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"resamples is 3, but an interval needs at least 20(?s:.*)level is 1.5, but must"
    ):
        Resampling(resamples=3, level=1.5)


def test_ids_that_do_not_match_the_films_are_refused() -> None:
    with pytest.raises(DataError, match="1 patient ids for 2 labelled films can't be resampled"):
        Cohort.of(["p"], np.array([0, 1]))
    with pytest.raises(DataError, match="0 patient ids for 0 labelled films"):
        Cohort.of([], np.array([], dtype=int))


def one_stratum(n: int) -> Cohort:
    return Cohort.of([f"p{i:04}" for i in range(n)], np.zeros(n, dtype=int))


def test_bca_agrees_with_scipy_on_a_skewed_mean() -> None:
    """Both resample at random, so the bounds agree within the noise of 4,000 resamples; percentiles lie elsewhere."""
    data = stream(0, "skewed").exponential(size=40) ** 2
    mean = lambda weights: weights @ data / weights.sum(axis=1)  # noqa: E731
    made = Resampled.of(mean, one_stratum(40), Resampling(resamples=4000, method="bca"))
    low, high, method = made.interval(0)
    rng = np.random.default_rng(0)
    expected = stats.bootstrap((data,), np.mean, n_resamples=4000, method="BCa", rng=rng).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=0.04)
    assert method == "BCa bootstrap by patient"
    assert high > 1.04 * percentile_interval(made.samples[:, 0], 0.95)[1]


def test_acceleration_of_a_mean_is_a_sixth_of_its_skewness_over_the_root_of_n() -> None:
    """Efron 1987: for a mean the influences are the deviations from it."""
    data = stream(1, "skewed").exponential(size=60)
    left_out, strata = jackknife(lambda weights: weights @ data / weights.sum(axis=1), one_stratum(60))
    assert acceleration(left_out[:, 0], strata) == pytest.approx(stats.skew(data) / (6 * math.sqrt(60)))


def test_grouped_jackknife_gives_nearly_the_same_acceleration() -> None:
    data = stream(2, "skewed").exponential(size=3000)
    mean = lambda weights: weights @ data / weights.sum(axis=1)  # noqa: E731
    left_out, strata = jackknife(mean, one_stratum(3000))
    assert len(left_out) == 200
    assert acceleration(left_out[:, 0], strata) == pytest.approx(stats.skew(data) / (6 * math.sqrt(3000)), abs=0.004)


def test_bca_equals_percentiles_where_there_is_neither_bias_nor_skewness() -> None:
    samples = np.linspace(-1, 1, 2001)
    assert bca_interval(0.0, samples, 0.0, 0.9) == pytest.approx(percentile_interval(samples, 0.9), abs=1e-9)


def test_bca_by_hand() -> None:
    """Bias from 60 % of the resamples below the value, acceleration 0.05: levels by Efron's formula."""
    samples = np.arange(1000.0)
    bias, a = stats.norm.ppf(0.6), 0.05
    levels = [stats.norm.cdf(bias + (bias + z) / (1 - a * (bias + z))) for z in stats.norm.ppf([0.025, 0.975])]
    assert bca_interval(599.5, samples, a, 0.95) == pytest.approx(np.quantile(samples, levels))


def test_bca_falls_back_to_percentiles_where_all_resamples_lie_on_one_side() -> None:
    samples = np.linspace(0.2, 0.4, 100)
    assert all(math.isnan(bound) for bound in bca_interval(0.1, samples, 0.0, 0.95))
    made = Resampled(np.array([0.1]), samples[:, None], np.array([0.0]), 0.95)
    assert made.interval(0) == (*percentile_interval(samples, 0.95), "bootstrap by patient")
    assert math.isnan(acceleration(np.array([0.1, math.nan]), np.array([0, 0])))
    assert acceleration(np.ones(5), np.zeros(5, dtype=int)) == 0.0


def test_bca_of_auroc_near_one_covers_better_than_percentiles() -> None:
    """Binormal with an AUROC of 0.98: percentile bounds lie too high."""
    truth, rng = stats.norm.cdf(3 / math.sqrt(2)), stream(3, "coverage")
    above = {"percentile": 0, "bca": 0}
    for draw in range(120):
        positive = np.arange(100) < 40
        scores = rng.normal(size=100) + 3 * positive
        cohort = Cohort.of([str(i) for i in range(100)], positive.astype(int))
        for method in above:
            settings = Resampling(seed=draw, resamples=200, level=0.9, method=method)  # type: ignore[arg-type]
            made = Resampled.of(Ranking.of(scores, positive).auroc, cohort, settings)
            above[method] += made.interval(0)[0] > truth
    assert above["bca"] < above["percentile"]


def test_a_signed_value_has_an_interval_or_says_why_not() -> None:
    made = Resampled(np.array([-0.2, math.nan]), np.tile(np.linspace(-0.4, 0.0, 101)[:, None], 2), None, 0.9)
    found = made.signed(0, n=50, patients=30)
    assert found.interval == pytest.approx((-0.38, -0.02))
    assert not made.signed(0, n=5, patients=4).bounded
    assert made.signed(1, n=5, patients=9, reason="Nothing there.").reason == "Nothing there."


def test_a_perfect_proportion_takes_wilson_under_bca_too() -> None:
    hits = np.ones(40)
    statistic = lambda weights: weights @ hits / weights.sum(axis=1)  # noqa: E731
    found = Resampled.of(statistic, one_stratum(40), Resampling(resamples=50, method="bca")).proportion(
        0, n=40, patients=40
    )
    assert found.interval == pytest.approx(wilson_interval(1.0, 40))


def test_memory_stays_small_however_many_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call sees more counts than a batch holds."""
    monkeypatch.setattr(intervals, "BATCH_CELLS", 1000)
    seen = []
    bootstrap(lambda weights: seen.append(weights.size) or weights[:, 0], one_stratum(100), Resampling(resamples=95))
    assert max(seen) <= 1000
    assert sum(seen) == 95 * 100


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="method is 'basic', but must be percentile or bca"):
        Resampling(method="basic")  # type: ignore[arg-type]


def test_sums_by_patient_are_those_by_film() -> None:
    """The same resamples, summed over patients or over films, when one batch holds them all."""
    rng = stream(4, "sums")
    ids, classes = [f"p{i % 40}" for i in range(120)], np.arange(120) % 40 % 2
    columns, cohort = rng.normal(size=(120, 3)), Cohort.of(ids, classes)
    settings = Resampling(resamples=50)
    by_film = bootstrap(lambda weights: weights @ columns, cohort, settings)
    np.testing.assert_allclose(bootstrap_sums(columns, cohort, settings), by_film)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_statistic_of_sums_has_the_interval_of_the_same_statistic_of_films(method: str) -> None:
    hits, cohort = stream(5, "sums").random(90) < 0.6, one_stratum(90)
    settings = Resampling(resamples=200, method=method)  # type: ignore[arg-type]
    by_film = Resampled.of(lambda weights: weights @ hits / weights.sum(axis=1), cohort, settings)
    columns = np.column_stack([hits, np.ones(90)])
    by_sums = Resampled.of_sums(columns, lambda sums: sums[:, :1] / sums[:, 1:], cohort, settings)
    assert by_sums.interval(0) == (pytest.approx(by_film.interval(0)[0]), *by_film.interval(0)[1:])
    assert by_sums.values == pytest.approx(by_film.values)


@pytest.mark.long
@pytest.mark.parametrize(("method", "least"), [("percentile", 0.925), ("bca", 0.925)])
def test_bootstrap_intervals_cover_over_many_draws(method: str, least: float) -> None:
    """1,000 cohorts of 100 patients, AUROC 0.76, 95 % nominal with 500 resamples each."""
    truth, rng, covered = stats.norm.cdf(1 / math.sqrt(2)), stream(6, "coverage"), 0
    positive = np.arange(100) < 40
    cohort = Cohort.of([str(i) for i in range(100)], positive.astype(int))
    for draw in range(1000):
        ranking = Ranking.of(rng.normal(size=100) + positive, positive)
        settings = Resampling(seed=draw, resamples=500, method=method)  # type: ignore[arg-type]
        low, high, _ = Resampled.of(ranking.auroc, cohort, settings).interval(0)
        covered += low <= truth <= high
    assert least <= covered / 1000 <= 0.97
