"""Late and selective labels: weights give the truth where counting labelled films does not."""

from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.monitoring.performance import Labelled, by_group, by_month, measure, weights_of

DAY = 86_400.0


def site(n: int, seed: int, *, selective: bool = True) -> tuple[Labelled, np.ndarray]:
    """Films of which readers label the high scores far more often; and the truth of all."""
    chance = np.random.default_rng(seed)
    truth = (chance.random(n) < 0.2).astype(np.int64)
    score = 1 / (1 + np.exp(-(chance.normal(0, 1.2, n) + 2.2 * truth - 1.5)))
    shown = chance.random(n) < (np.where(score > 0.4, 0.9, 0.15) if selective else 0.4)
    films = Labelled(
        films=tuple(f"f{i}" for i in range(n)),
        patient=np.arange(n),
        at=1.77e9 + np.sort(chance.random(n)) * 90 * DAY,
        score=score,
        label=np.where(shown, truth, -1),
        abstained=np.zeros(n, dtype=bool),
        groups={"sex": tuple(chance.choice(["F", "M"], n)), "reader": tuple(chance.choice(["a", "b"], n))},
    )
    return films, truth


def figure(films: Labelled, name: str) -> tuple[float, float]:
    found = {one.name: one for one in measure(films, threshold=0.4, name="all").figures}
    return found[name].naive, found[name].value


def test_weighting_is_unbiased_where_counting_labelled_films_is_not() -> None:
    naive, weighted, real = [], [], []
    for seed in range(16):
        films, truth = site(2000, seed)
        one = figure(films, "sensitivity")
        naive.append(one[0])
        weighted.append(one[1])
        real.append(((films.score >= 0.4) & (truth == 1)).sum() / truth.sum())
    error = np.std(np.subtract(weighted, real)) / np.sqrt(16)
    assert abs(np.mean(np.subtract(weighted, real))) < 4 * error
    assert np.mean(np.subtract(naive, real)) > 0.05


def test_the_interval_covers_the_truth() -> None:
    covered = 0
    for seed in range(30):
        films, truth = site(1500, 100 + seed)
        found = next(f for f in measure(films, threshold=0.4, name="all").figures if f.name == "specificity")
        real = ((films.score < 0.4) & (truth == 0)).sum() / (truth == 0).sum()
        covered += found.low <= real <= found.high
    assert covered >= 26


def test_where_labels_are_a_random_sample_both_agree() -> None:
    films, _ = site(4000, 1, selective=False)
    naive, weighted = figure(films, "auroc")
    assert naive == pytest.approx(weighted, abs=0.02)


def test_each_labelled_film_stands_for_those_like_it() -> None:
    films, _ = site(2000, 2)
    weights, lost = weights_of(films, 0.4)
    assert lost == 0
    assert weights.sum() == pytest.approx(2000)
    hidden = replace(films, label=np.where(films.score >= np.quantile(films.score, 0.85), -1, films.label))
    assert weights_of(hidden, 0.4)[1] > 0
    assert "like none that was labelled" in measure(hidden, threshold=0.4, name="x").why_not


def test_months_count_films_where_they_belong_with_their_completeness() -> None:
    films, _ = site(3000, 3)
    late = replace(films, label=np.where(films.at > films.at[2000], -1, films.label))
    months = by_month(late, threshold=0.4)
    assert [one.name for one in months] == ["2026-02", "2026-03", "2026-04", "2026-05"]
    assert sum(one.films for one in months) == 3000
    assert months[0].completeness > 0.2
    assert months[-1].completeness == 0
    assert "10 patients of each are needed" in months[-1].why_not


def test_groups_and_readers_are_told_apart() -> None:
    films, _ = site(3000, 4)
    assert [one.name for one in by_group(films, "reader", threshold=0.4)] == ["reader: a", "reader: b"]
    with pytest.raises(DataError, match="no group 'age'; there are reader, sex"):
        by_group(films, "age", threshold=0.4)


def test_labels_that_make_no_sense_are_refused() -> None:
    films, _ = site(50, 5)
    with pytest.raises(DataError, match="1 films have two labels"):
        replace(films, films=("f1", *films.films[1:]))
    with pytest.raises(DataError, match="must be 1, 0 or -1"):
        replace(films, label=np.full(50, 7))
    with pytest.raises(DataError, match="score has 3 rows"):
        replace(films, score=np.zeros(3))
    with pytest.raises(DataError, match="no analysed films"):
        films.select(np.zeros(50, dtype=bool))


def test_one_class_alone_says_why_nothing_is_told() -> None:
    films, _ = site(200, 6)
    one = measure(replace(films, label=np.zeros(200, dtype=np.int64)), threshold=0.4, name="x")
    assert one.figures == ()
    assert "0 labelled films of 0 patients with the finding and 200 of 200 without it" in one.why_not


def copied(films: Labelled, times: int) -> Labelled:
    """Each film so often, of the same patient and alike to the last digit: nothing new is said by the copies."""
    rows = np.repeat(np.arange(len(films.films)), times)
    columns = {name: getattr(films, name)[rows] for name in ("patient", "at", "score", "label", "abstained")}
    groups = {name: tuple(column[row] for row in rows) for name, column in films.groups.items()}
    return replace(films, films=tuple(f"f{number}" for number in range(len(rows))), groups=groups, **columns)


def widths(films: Labelled, **more: int) -> dict[str, float]:
    found = measure(films, threshold=0.4, name="all", **more).figures
    return {one.name: one.high - one.low for one in found}


def test_copies_of_a_patients_films_make_no_interval_narrower() -> None:
    """Intervals come of patients: four films of each, all alike, tell what one does. Films alone would halve them."""
    films, _ = site(1500, 7, selective=False)
    once, alike = widths(films), widths(copied(films, 4))
    apart = widths(replace(copied(films, 4), patient=np.arange(4 * 1500)))
    for name in once:
        assert alike[name] == pytest.approx(once[name], rel=1e-6), name
        assert apart[name] < 0.65 * once[name], name


def test_the_same_seed_gives_the_same_interval() -> None:
    films = copied(site(600, 8, selective=False)[0], 2)
    assert measure(films, threshold=0.4, name="all") == measure(films, threshold=0.4, name="all")
    assert widths(films) != widths(films, seed=1)


def test_many_films_of_few_patients_are_too_few() -> None:
    films, truth = site(400, 9, selective=False)
    few = replace(films, label=truth, patient=np.where(truth == 1, 1000 + np.arange(400) % 3, np.arange(400)))
    one = measure(few, threshold=0.4, name="x")
    assert one.figures == ()
    assert f"{truth.sum()} labelled films of 3 patients with the finding" in one.why_not
