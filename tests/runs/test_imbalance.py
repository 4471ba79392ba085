"""Answers to imbalance compared on synthetic films: what is written, resumed and said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hilum.datasets.manifest import Manifest
from hilum.errors import UsageError
from hilum.evaluation.estimates import Estimate, to_plain
from hilum.evaluation.scorecard import score
from hilum.runs.imbalance import compare_imbalance
from hilum.runs.imbalance_report import answer_sentences
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig


def test_answers_are_compared_out_of_fold_and_a_second_call_trains_nothing(
    run: Run, cohort: Path, small: TrainConfig, tmp_path: Path
) -> None:
    """Each row is the scorecard of its own run; the differences are held against the first."""
    films = Manifest.read(cohort / "split.parquet")
    one_stage = replace(small, recipe=replace(small.recipe, stages=small.recipe.stages[:1]))
    wanted, cache = ("oversampling", "none"), run.path.parent / ".cache"
    done = compare_imbalance(films, one_stage, tmp_path / "c", strategies=wanted, cache=cache, resamples=60)
    told = json.loads((tmp_path / "c" / "report.json").read_text())
    assert [row["strategy"] for row in told["rows"]] == ["none", "oversampling"]
    assert told["base"] == "none"
    assert not told["rows"][0]["against"]
    own = Run.open(tmp_path / "c" / "runs" / "oversampling")
    assert own.recipe.imbalance.strategy == "oversampling"
    card = score(own.out_of_fold(), resamples=60)
    assert told["rows"][1]["balanced_accuracy"] == to_plain(card.balanced_accuracy)
    assert not own.folder.openings.exists()
    page = done.report.read_text()
    assert all(sentence.split(":")[0] in page for sentence in told["sentences"])
    assert (tmp_path / "c" / "figures" / "sensitivity.svg").exists()
    before = own.folder.result.stat().st_mtime_ns
    again = compare_imbalance(films, one_stage, tmp_path / "c", strategies=wanted, cache=cache, resamples=60)
    assert own.folder.result.stat().st_mtime_ns == before
    assert again.measured["rows"] == done.measured["rows"]


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        (("focl", "none"), "There is no answer 'focl' to imbalance. Did you mean 'focal'"),
        (("focal",), "A comparison needs two answers or more, but got only 'focal'. Name another --strategy"),
    ],
)
def test_wrong_names_are_refused(
    cohort: Path, small: TrainConfig, tmp_path: Path, strategies: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        compare_imbalance(Manifest.read(cohort / "split.parquet"), small, tmp_path / "c", strategies=strategies)
    assert not (tmp_path / "c").exists()


def row(name: str, ece: float, difference: tuple[float, float, float] | None = None) -> dict[str, object]:
    against = {}
    if difference:
        value, low, high = difference
        found = to_plain(Estimate(value=value, low=low, high=high))
        against = {"balanced_accuracy": found, "macro_auroc": found}
    return {"strategy": name, "answer": name, "ece": to_plain(Estimate(value=ece)), "against": against}


def test_sentences_say_what_differs_and_what_does_not() -> None:
    """Higher, lower, the same, and not comparable; the caution counts the comparisons."""
    measured = {
        "base": "none",
        "class_films": {"a": 10, "b": 40},
        "class_patients": {"a": 9, "b": 30},
        "rows": [
            row("none", 0.05),
            row("focal", 0.02, (0.1, 0.05, 0.15)),
            row("oversampling", 0.2, (-0.1, -0.2, -0.05)),
            row("class-weights", 0.1, (0.0, -0.1, 0.1)),
            row("logit-adjustment", 0.1, (float("nan"),) * 3),
        ],
    }
    sizes, balanced, _, ece, caution = answer_sentences(measured)
    assert sizes.endswith("The largest class has 4 times the films of the smallest.")
    assert balanced == (
        "Beside none, balanced accuracy is higher with focal by +0.100 (+0.050 to +0.150); lower with oversampling by "
        "-0.100 (-0.200 to -0.050); not told apart with class-weights; not comparable with logit-adjustment."
    )
    assert ece.startswith("ECE is lowest for focal, 0.020 (no interval), and highest for oversampling, 0.200")
    assert "4 comparisons" in caution
    assert "in 19% of such tables" in caution


def test_classes_of_equal_size_are_said_to_need_no_answer() -> None:
    measured = {"base": "none", "class_films": {"a": 7, "b": 7}, "class_patients": {"a": 7, "b": 7}}
    sizes = answer_sentences({**measured, "rows": [row("none", 0.1)]})[0]
    assert sizes.endswith("All classes have the same number of films, so there is no imbalance to answer.")


def test_an_ece_that_can_not_be_measured_is_said() -> None:
    measured = {"base": "none", "class_films": {"a": 1, "b": 0}, "class_patients": {"a": 1, "b": 0}}
    told = answer_sentences({**measured, "rows": [row("none", float("nan"))]})
    assert "ECE can't be measured on these films." in told
