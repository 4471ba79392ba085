"""Audits of films: each finds its own fault, and not where there is none."""

from collections.abc import Callable

import numpy as np
import pytest

from hilum.evaluation.audits import concluded
from hilum.evaluation.confounding import within_source
from hilum.evaluation.data_audits import (
    Asked,
    coded,
    duplicates_audit,
    label_noise,
    metadata_audit,
    part_audits,
)
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.source_audits import group_audits, inside_audits, left_out_audits
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream

FEW = Resampling(resamples=100)


def asked(n: int = 90) -> Asked:
    ids = tuple(f"p{i}" for i in range(n))
    return Asked(findings=CHEST, classes=np.arange(n) % 3, patient_ids=ids, settings=FEW, permutations=199)


def features(n: int = 90, shift: float = 0.0, by: np.ndarray | None = None) -> np.ndarray:
    values = stream(3, "features").normal(size=(n, 5))
    values[np.arange(n), np.arange(n) % 3 if by is None else by] += shift
    return values


def test_columns_of_metadata_as_numbers() -> None:
    assert coded(["a", "b", "a", "c", "b"]).tolist() == [[1, 0], [0, 1], [1, 0], [0, 0], [0, 1]]
    numbers = coded(np.array([1.0, np.nan, 3.0]))
    assert numbers[:, 0].tolist() == [1, 2, 3]
    assert numbers[:, 2].tolist() == [1, 0, 1]
    assert coded(np.full(3, np.nan)).shape == (3, 0)


def test_a_label_that_stands_in_the_metadata_is_read_and_the_column_named() -> None:
    rng = stream(0, "metadata")
    view = [("PA", "AP", "AP")[c] for c in asked().classes]
    columns = {"view_position": view, "sex": rng.choice(["F", "M"], 90).tolist()}
    (row,) = concluded([metadata_audit(asked(), columns)])
    assert row.verdict == "alarm"
    assert "above all from the view" in row.sentence
    assert row.about == "view, sex"
    (row,) = concluded([metadata_audit(asked(), {"sex": columns["sex"]})])
    assert row.verdict == "clear"


def test_a_part_without_lungs_that_tells_the_label_is_named() -> None:
    views = {"border-only model": features(shift=2.0), "corner-marker model": features()}
    rows = {row.name: row for row in concluded(part_audits(asked(), views, features(shift=2.0)))}
    assert rows["border-only model"].verdict == "alarm"
    assert "the label goes with something outside the lungs" in rows["border-only model"].sentence
    assert rows["corner-marker model"].verdict == "clear"
    assert rows["whole-film model"].verdict == "note"


def test_a_group_is_an_alarm_only_where_the_label_goes_with_it() -> None:
    n = 120
    which = np.arange(n) // 3 % 2
    apart = ["a" if i else "b" for i in which]
    together = ["a" if c == 2 else "b" for c in np.arange(n) % 3]
    seen = features(n, 3.0, which)
    told = concluded(group_audits(asked(n), seen, {"source": apart}))
    assert told[0].value.value > 0.9
    assert told[0].verdict == "clear"
    assert told[0].sentence.startswith("No way round the disease: the source can be read from the network's frozen")
    assert told[0].sentence.endswith("but the label doesn't go with it.")
    told = concluded(group_audits(asked(n), features(n, 4.0), {"source": together}))
    assert told[0].verdict == "alarm"
    assert told[0].severity == "red"
    told = concluded(group_audits(asked(n), features(n), {"source": together}))
    assert told[0].verdict == "clear"


def test_films_without_a_recorded_group_are_not_asked() -> None:
    (row,) = group_audits(asked(), features(), {"sex": [""] * 90})
    assert row.value.reason == "Fewer than two levels of sex have 5 patients."


def test_a_source_where_nothing_learned_elsewhere_holds() -> None:
    """In the second source the same feature means another finding."""
    n = 240
    here = np.arange(n) // 3 % 2
    by = np.where(here == 1, (np.arange(n) + 1) % 3, np.arange(n) % 3)
    sources = ["b" if i else "a" for i in here]
    values = np.column_stack([features(n, 3.0, by), here[:, None] * features(n, 3.0, by) * 3])
    turned = concluded(left_out_audits(asked(n), values, sources))
    assert [row.about for row in turned] == ["'a'", "'b'"]
    assert turned[1].verdict == "alarm"
    assert turned[1].effect > 0.2
    same = concluded(left_out_audits(asked(n), features(n, 3.0), sources))
    assert {row.verdict for row in same} == {"clear"}
    assert left_out_audits(asked(n), features(n), ["a"] * n) == []


def test_a_left_out_source_without_common_findings_is_not_estimable() -> None:
    rows = left_out_audits(asked(), features(), ["b" if c == 2 else "a" for c in np.arange(90) % 3])
    assert {row.value.reason for row in rows} == {"Fewer than two findings have 5 patients both there and elsewhere."}


def test_a_pair_that_only_the_source_tells_apart_falls_inside_it(make: Callable[..., Predictions]) -> None:
    """Logits follow the source alone: over all sources the pair is told apart, inside one it isn't."""
    films = make(360, skill=0.0, confounded=True)
    films.logits[:, 2] += 3.0 * (np.asarray(films.groups["source"]) == "hospital-b")
    rows = {row.about: row for row in concluded(inside_audits(films, within_source(films, FEW), FEW))}
    fallen = rows["covid-19 against normal inside 'hospital-b'"]
    assert fallen.verdict == "alarm"
    assert fallen.value.value < 0.7
    assert fallen.effect > 0.2
    fair = make(360)
    assert {row.verdict for row in concluded(inside_audits(fair, within_source(fair, FEW), FEW))} == {"clear"}


def test_any_copy_across_the_split_is_an_alarm() -> None:
    told = concluded([duplicates_audit(1, 50, 200), duplicates_audit(0, 50, 200), duplicates_audit(0, 0, 10)])
    assert [row.verdict for row in told] == ["alarm", "clear", "not estimable"]
    assert told[0].value.value == 0.02
    assert told[0].sentence.startswith("1 pair of copies")


def test_label_noise_by_hand() -> None:
    """Class means of the own probability: normal 0.7, pneumonia 0.5. Two films reach the mean of another finding."""
    probs = np.array([[0.9, 0.1, 0], [0.9, 0.1, 0], [0.3, 0.7, 0], [0.2, 0.8, 0], [0.8, 0.2, 0], [0.5, 0.5, 0]])
    films = Predictions(
        findings=CHEST,
        film_ids=tuple(f"film{i}" for i in range(7)),
        patient_ids=tuple(f"p{i}" for i in range(7)),
        logits=np.zeros((7, 3)),
        probs=np.vstack([probs, [[0.0, 0.0, 1.0]]]),
        targets=np.vstack([np.eye(3)[[0, 0, 0, 1, 1, 1]], [[np.nan] * 3]]),
    )
    row, found = label_noise(films)
    assert [(c.film_id, c.label, c.answer, c.probability) for c in found] == [
        ("film4", "pneumonia", "normal", 0.8),
        ("film2", "normal", "pneumonia", 0.7),
    ]
    assert row.value.value == pytest.approx(2 / 6)
    assert row.sentence.startswith("2 of 6 labels are contradicted")
    assert concluded([row])[0].verdict == "note"
    assert len(label_noise(films, most=1)[1]) == 1
    nothing, none = label_noise(films.select(np.array([6])))
    assert none == ()
    assert nothing.value.reason == "There is no labelled film with an out-of-fold prediction."
