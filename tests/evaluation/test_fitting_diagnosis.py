"""The diagnosis on synthetic curves of each kind: clean, noisy, flat, short, and with what no curve may hold."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import ConfigError, DataError
from hilum.evaluation.fitting_curves import FitCurves, noise_of, read_curves
from hilum.evaluation.fitting_diagnosis import Diagnosis, FittingThresholds, diagnose
from hilum.evaluation.gap_rule import agreement, gap_rule


def curves(kind: str, epochs: int = 20, noise: float = 0.0, seed: int = 0) -> FitCurves:
    """Synthetic curves; t runs from 0 to 30 whatever the number of epochs."""
    t = np.arange(epochs) / epochs * 30
    two, three, four, six, eight = (np.exp(-t / scale) for scale in (2, 3, 4, 6, 8))
    turning = 1 + 1.3 * four + 0.03 * (t - 10).clip(0)
    known = {
        "overfits": (2.3 * six, turning, 1 - 0.9 * six, 0.7 - 0.6 * four),
        "parts": (2.3 * eight, 1 + 1.3 * two, 1 - 0.9 * eight, 0.6 - 0.5 * two),
        "fits": (0.1 + 2.2 * four, 0.2 + 2.1 * four, 0.96 - 0.86 * four, 0.93 - 0.83 * four),
        "too small": (1.5 + 0.8 * three, 1.52 + 0.78 * three, 0.45 - 0.35 * three, 0.44 - 0.34 * three),
        "too short": (2.3 - 0.045 * t, 2.3 - 0.04 * t, 0.1 + 0.012 * t, 0.1 + 0.01 * t),
        "flat": (0 * t + 2.303, 0 * t + 2.303, 0 * t + 0.1, 0 * t + 0.1),
    }
    rng = np.random.default_rng(seed)
    parts = [
        clean + share * noise * rng.standard_normal(epochs)
        for clean, share in zip(known[kind], (0.3, 1, 0.3, 0.5), strict=True)
    ]
    return FitCurves(
        train_loss=parts[0].clip(0),
        validation_loss=parts[1],
        train_accuracy=parts[2].clip(0, 1),
        validation_accuracy=parts[3].clip(0, 1),
    )


EXPECTED = {
    "overfits": ("overfits", "short of data"),
    "parts": ("overfits", "short of data"),
    "fits": ("fits", "nothing shown"),
    "too small": ("underfits", "short of capacity"),
    "too short": ("underfits", "still training"),
    "flat": ("underfits", "short of capacity"),
}


@pytest.mark.parametrize("epochs", [8, 12, 30, 60])
@pytest.mark.parametrize("kind", EXPECTED)
def test_clean_curves_of_each_kind_are_recognised(kind: str, epochs: int) -> None:
    found = diagnose(curves(kind, epochs))
    assert (found.verdict, found.limit) == EXPECTED[kind]
    assert (found.from_epoch is None) == (found.verdict != "overfits")


@pytest.mark.parametrize("kind", EXPECTED)
def test_noise_does_not_change_the_verdict_in_twenty_seeds(kind: str) -> None:
    """Noise of 0.02 in validation loss, one point in accuracy; a gap that grows unseen by the loss is the hardest."""
    said = Counter(
        (found.verdict, found.limit) for found in (diagnose(curves(kind, 20, 0.02, seed)) for seed in range(20))
    )
    assert said[EXPECTED[kind]] >= (17 if kind == "parts" else 20), said


def test_flat_noise_is_hardly_ever_taken_for_a_rise() -> None:
    """Pure noise, short and long: the lowest of many noisy values is not over-fitting (200 trainings)."""
    wrong = sum(
        diagnose(curves("flat", epochs, 0.05, seed)).verdict == "overfits"
        for epochs in (8, 15, 30, 60)
        for seed in range(50)
    )
    assert wrong <= 6


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_over_fitting_begins_behind_the_lowest_validation_loss(noise: float) -> None:
    """The synthetic loss turns at t = 10 of 30, which is between epochs 7 and 8 of 20."""
    begins = [diagnose(curves("overfits", 20, noise, seed)).from_epoch for seed in range(20)]
    assert set(begins) <= {7, 8, 9, 10}
    assert np.median([epoch or 0 for epoch in begins]) in (8, 9)


def test_over_fitting_of_the_loss_alone_is_told_from_that_of_the_decisions() -> None:
    rising = diagnose(curves("overfits"))
    assert rising.facts.accuracy_change > 0.02
    assert "validation accuracy still rose by 4.4 points: the network grows too sure, not worse" in rising.sentence
    given = curves("overfits")
    falling = diagnose(replace(given, validation_accuracy=np.linspace(0.7, 0.4, 20)))
    assert falling.facts.accuracy_change < -0.1
    assert "validation accuracy fell by" in falling.sentence
    flat = diagnose(replace(given, validation_accuracy=np.full(20, 0.5)))
    assert "validation accuracy stayed where it was" in flat.sentence


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("overfits", "Overfits from epoch 9 of 20: validation loss was lowest in epoch 8 (1.12) and ends 0.343 above"),
        ("parts", "Overfits from epoch 9 of 20: validation loss has hardly fallen since epoch 8 (1 at its lowest)"),
        ("fits", "Fits: validation loss ends 0 above its lowest value of 0.202 (epoch 20; "),
        ("fits", "The training images are learnt and the gap is small: the curves show nothing that is wanting."),
        ("too small", "Underfits: accuracy at the end is 45.0 % on training and 44.0 % on validation images"),
        ("too small", "Short of capacity: training loss has come to a halt (0.0 % an epoch) without a gap"),
        ("too short", "Still training: training loss falls by 5.9 % an epoch at the end, so more epochs come first."),
    ],
)
def test_the_sentence_gives_verdict_limit_and_numbers(kind: str, said: str) -> None:
    assert said in diagnose(curves(kind)).sentence


def test_few_epochs_say_nothing() -> None:
    for epochs in (1, 2, 5):
        found = diagnose(curves("overfits", epochs))
        assert (found.verdict, found.limit) == ("not enough epochs to say", "unknown")
        assert f"Not enough epochs to say: {epochs}, and 6 are the least; accuracy" in found.sentence
    assert diagnose(curves("flat", 5), FittingThresholds(fewest_epochs=5)).verdict == "underfits"


def test_noise_that_hides_a_rise_says_nothing_where_there_is_a_gap() -> None:
    jumping = 1 + 0.4 * (-1.0) ** np.arange(8)
    given = FitCurves(
        train_loss=np.linspace(2, 1, 8),
        validation_loss=jumping,
        train_accuracy=np.linspace(0.3, 0.6, 8),
        validation_accuracy=np.full(8, 0.3),
    )
    found = diagnose(given)
    assert found.verdict == "not enough epochs to say"
    assert "validation loss jumps by" in found.sentence
    alike = replace(given, validation_accuracy=given.train_accuracy)
    assert diagnose(alike).verdict == "underfits"


def test_a_learning_curve_supports_or_contradicts_the_want_of_data() -> None:
    """The last doubling counts: 500 → 2,000 images are two, and bring 8 points, so 4 each."""
    given = curves("overfits")
    helped = diagnose(given, learning_curve=[(2000, 0.58), (500, 0.5), (125, 0.2)])
    assert helped.facts.gain_per_doubling == pytest.approx(0.04)
    assert helped.sentence.endswith("twice the images bring 4.0 points of validation accuracy.")
    vain = diagnose(given, learning_curve=[(500, 0.5), (1000, 0.502)])
    assert (vain.verdict, vain.limit) == (helped.verdict, helped.limit)
    assert "twice the images bring only 0.2 points" in vain.sentence
    assert "no learning curve was measured" in diagnose(given).sentence


def test_thresholds_decide() -> None:
    """The same curves under other thresholds: what counts is a choice that can be read and changed."""
    given = curves("overfits")
    assert diagnose(given, FittingThresholds(rise_share=0.9, gap_growth=0.9)).verdict == "fits"
    assert diagnose(curves("too small"), FittingThresholds(enough_accuracy=0.4)).limit == "nothing shown"
    assert diagnose(curves("fits"), FittingThresholds(small_gap=0.01)).limit == "short of data"


def test_noise_is_that_of_the_points_not_of_the_trend() -> None:
    rng = np.random.default_rng(0)
    trend = np.linspace(5, 0, 2000)
    assert noise_of(trend) == pytest.approx(0, abs=1e-9)
    assert noise_of(trend + 0.1 * rng.standard_normal(2000)) == pytest.approx(0.1, rel=0.05)
    assert np.isnan(noise_of([1.0, 2.0]))


def test_the_numbers_by_hand() -> None:
    """Eight epochs; the last quarter, two epochs, is the end."""
    facts = read_curves(
        FitCurves(
            train_loss=[8, 7, 6, 5, 4, 3, 2, 1],
            validation_loss=[9, 5, 3, 2, 2, 2, 4, 4],
            train_accuracy=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
            validation_accuracy=[0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.3, 0.2],
        )
    )
    assert (facts.best_epoch, facts.best_loss, facts.end_loss, facts.rise) == (4, 2, 4, 2)
    assert facts.train_fall == pytest.approx(1 / 2)
    assert (facts.train_accuracy, facts.validation_accuracy) == pytest.approx((0.75, 0.25))
    assert facts.gap == pytest.approx(0.5)
    assert facts.accuracy_change == pytest.approx(0.25 - 1.1 / 3)


def test_rows_of_a_training_become_curves() -> None:
    rows = [
        {"probe_loss": 2.0, "probe_accuracy": 0.2, "watch_loss": 2.1, "watch_accuracy": 0.1, "epoch": 1},
        {"probe_loss": 1.0, "probe_accuracy": 0.6, "watch_loss": 1.5, "watch_accuracy": 0.4, "epoch": 2},
    ]
    given = FitCurves.of_rows(rows)
    assert (given.train_loss, given.validation_accuracy) == ((2.0, 1.0), (0.1, 0.4))
    with pytest.raises(DataError, match=r"Rows lack probe_accuracy, probe_loss in some epochs\. Train with validation"):
        FitCurves.of_rows([{**rows[0], "probe_loss": None, "probe_accuracy": None}, rows[1]])


def test_what_is_no_curve_is_refused_by_name() -> None:
    good = {"train_loss": [1, 2], "validation_loss": [1, 2], "train_accuracy": [0, 1], "validation_accuracy": [0, 1]}
    with pytest.raises(DataError, match=r"validation_loss is nan in epoch 2\. Train with a lower rate"):
        FitCurves(**{**good, "validation_loss": [1, float("nan")]})
    with pytest.raises(DataError, match=r"train_accuracy is None in epoch 1\."):
        FitCurves(**{**good, "train_accuracy": [None, 1]})
    with pytest.raises(DataError, match=r"different numbers of epochs \(train_loss 2, validation_loss 1, train_acc"):
        FitCurves(**{**good, "validation_loss": [1]})
    with pytest.raises(DataError, match=r"The curves have no epoch\. Give one value an epoch"):
        FitCurves(**dict.fromkeys(good, ()))
    with pytest.raises(DataError, match=r"train_loss is -1 in epoch 1, but must be 0 or more\."):
        FitCurves(**{**good, "train_loss": [-1, 2]})
    with pytest.raises(DataError, match=r"validation_accuracy is 62 in epoch 2, but must be in 0 … 1, not per cent\."):
        FitCurves(**{**good, "validation_accuracy": [0, 62]})
    with pytest.raises(DataError, match=r"two or more different numbers of images, but has \[500, 500\]"):
        diagnose(curves("fits"), learning_curve=[(500, 0.1), (500, 0.2)])
    with pytest.raises(DataError, match=r"holds the accuracy 50, but must lie in 0 … 1"):
        diagnose(curves("fits"), learning_curve=[(500, 0.1), (1000, 50)])


def test_wrong_thresholds_are_refused_all_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"small_gap is 5, but must lie between 0 and 1\.\n.*fewest_epochs is 1, but must be 3"
    ) as caught:
        FittingThresholds(small_gap=5, fewest_epochs=1, rise_errors=0)
    assert "rise_errors is 0, but must be above 0" in str(caught.value)


@pytest.mark.parametrize(
    ("gap", "word"),
    [
        (-0.03, "generalises"),
        (0.049, "generalises"),
        (0.06, "in between"),
        (0.12, "overfits by the stricter figure"),
        (0.16, "overfits"),
    ],
)
def test_the_rule_of_thumb_looks_at_the_gap_alone(gap: float, word: str) -> None:
    assert gap_rule(0.5 + gap, 0.5).word == word


def test_the_rule_takes_shares_not_per_cent() -> None:
    with pytest.raises(DataError, match=r"train_accuracy is 93, but must be in 0 … 1, not per cent"):
        gap_rule(93, 0.5)


def judged(found: Diagnosis) -> tuple[str, str]:
    return agreement(found, gap_rule(found.facts.train_accuracy, found.facts.validation_accuracy))


def test_rule_and_curves_are_compared_with_a_reason() -> None:
    assert judged(diagnose(curves("overfits")))[0] == "agrees"
    assert judged(diagnose(curves("fits")))[0] == "agrees"
    said, why = judged(diagnose(curves("too small")))
    assert said == "disagrees"
    assert why.endswith(
        "the curves say: underfits; the gap is small because the training images are not learnt either."
    )
    given = curves("too short")
    early = diagnose(replace(given, train_accuracy=np.linspace(0.1, 0.6, 20)))
    assert judged(early)[0] == "disagrees"
    assert "validation loss still falls, so more training helps" in judged(early)[1]
    assert judged(diagnose(curves("overfits", 3)))[0] == "says nothing"
    between = diagnose(replace(curves("too small"), validation_accuracy=np.full(20, 0.38)))
    assert judged(between)[0] == "says nothing"


def test_a_gap_without_a_rise_is_no_over_fitting_to_the_curves() -> None:
    """A gap of 20 points from the start that neither grows nor lifts validation loss."""
    given = curves("fits")
    found = diagnose(replace(given, validation_accuracy=(np.asarray(given.train_accuracy) - 0.2).clip(0)))
    said, why = judged(found)
    assert (found.verdict, found.limit, said) == ("fits", "short of data", "disagrees")
    assert why.endswith("validation loss has not risen beyond noise, so an earlier stop would gain nothing.")
