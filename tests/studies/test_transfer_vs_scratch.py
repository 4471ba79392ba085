"""Transfer against scratch: the whole study, small; and what its words say of numbers that are made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum.datasets.procedural_sets import ProceduralSetConfig, procedural_set
from hilum.studies.bench import Bench, Request
from hilum.studies.running import run_request
from hilum.studies.transfer_vs_scratch import Cell, Length, Scale
from hilum.studies.transfer_vs_scratch_analysis import (
    BLOCK,
    FULL,
    HEAD,
    METHODS,
    SCRATCH,
    difference,
    labels_saved,
    reaching,
    summary,
    targets,
    unfinished,
    whole_saved,
)
from hilum.studies.transfer_vs_scratch_words import finding, numbers
from hilum.studies.transferring import PHOTO_VIEWS, Start, Task
from hilum.training.prefix_cache import PrefixCache

ONE = Length(images=1, least=1, most=1)
TINY = Scale(
    size=32,
    photos=30,
    test=10,
    films=40,
    labels=(2,),
    seeds=2,
    views=1,
    scratch=ONE,
    head=ONE,
    block=ONE,
    full=ONE,
    resamples=20,
)


def test_the_whole_study_runs_small_and_its_report_says_what_was_measured(tmp_path: Path) -> None:
    request = Request(study="transfer-vs-scratch", weights="hilum", backbone="hilum_small")
    result = run_request(request, tmp_path / "out", cache=tmp_path / "cache", download=False, scale=TINY)
    assert result["first_line"].startswith("EMBEDDED data: Procedural images")
    assert "EMBEDDED data: Phantom chest films" in result["first_line"]
    measured = result["measured"]
    assert [(row["labels_per_class"], row["method"]) for row in measured["accuracy"]] == [
        (labels, method) for labels in (2, "all") for method in METHODS
    ]
    assert {row["method"] for row in measured["films"]} == set(METHODS)
    assert all(row["low"] <= row["auroc"] <= row["high"] for row in measured["films"])
    assert "synthetic phantom films" in result["finding"]
    names = {figure["name"] for figure in result["figures"]}
    assert names == {"accuracy_by_labels", "gap_by_labels", "cost_by_labels", "learning", "films"}
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith("_s")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def test_the_same_seed_trains_to_the_same_numbers_and_another_to_others(tmp_path: Path) -> None:
    images = procedural_set(ProceduralSetConfig(size=32, train=20, test=10))
    task = Task.of(
        (images.train.images, images.train.labels),
        (images.test.images, images.test.labels),
        images.classes,
        PHOTO_VIEWS,
    )
    start = Start.random("hilum_small", 0)

    def train(name: str, seed: int) -> list[dict[str, Any]]:
        bench = Bench(request=Request(study="transfer-vs-scratch"), parts=tmp_path / name, cache=tmp_path)
        rows = Cell(bench, TINY, task, start, PrefixCache(tmp_path / name / "tested"), None, seed).run()
        found: list[dict[str, Any]] = without_times(rows)
        return found

    assert train("a", 0) == train("b", 0)
    assert train("a", 0) != train("c", 1)


def test_fewer_labels_lie_inside_more_of_the_same_seed_and_watched_images_are_never_fitted() -> None:
    images = np.zeros((40, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    task = Task.of((images[:30], labels[:30]), (images[30:], labels[30:]), ("a", "b"), PHOTO_VIEWS)
    few, none = task.choose(3, seed=5, watched=False)
    more, _ = task.choose(9, seed=5, watched=False)
    assert len(few) == 6
    assert len(none) == 0
    assert set(few) < set(more)
    fit, watch = task.choose(None, seed=5, watched=True)
    assert sorted([*fit, *watch]) == list(range(30))
    assert np.bincount(task.labels[watch]).tolist() == [3, 3]
    assert task.test.tolist() == list(range(30, 40))


def test_few_labels_get_more_epochs_within_bounds() -> None:
    length = Length(images=1000, least=3, most=20)
    assert [length.epochs(count) for count in (10, 100, 1000)] == [20, 10, 3]


def row(
    method: str, labels: int | str, seed: int, accuracy: float, curve: list[tuple[float, float]], **more: Any
) -> dict[str, Any]:
    count = 100 if labels == "all" else 2 * int(labels)
    return {
        "method": method,
        "labels_per_class": labels,
        "labels": count,
        "fitted": count,
        "seed": seed,
        "test_accuracy": accuracy,
        "train_accuracy": accuracy + 10,
        "epochs": 4,
        "macs": 8e9 if method == SCRATCH else 1e9,
        "prefix_s": 0.0,
        "training_s": curve[-1][1],
        "whole_s": curve[-1][1],
        "curve": [{"watch_accuracy": watched, "elapsed_s": elapsed} for watched, elapsed in curve],
    }


def made_up(transfer_s: float = 1.0, best_epoch: int = 2) -> list[dict[str, Any]]:
    """Scratch is best after 100 s; the others are better from their first epoch on."""
    slow = [(30.0 + 10 * (i == best_epoch), 50.0 * (i + 1)) for i in range(4)]
    slow[1] = (slow[1][0], 100.0)
    quick = [(60.0, transfer_s), (70.0, 2 * transfer_s)]
    rows = []
    for seed in range(3):
        rows += [row(SCRATCH, 5, seed, 30 + seed, slow), row(SCRATCH, "all", seed, 40 + seed, slow)]
        rows += [row(method, 5, seed, 45 + seed, quick) for method in METHODS[1:]]
        rows += [row(method, "all", seed, 60 + seed, quick) for method in METHODS[1:]]
    return rows


def test_the_target_is_what_scratch_reaches_at_best_and_time_runs_until_the_epoch_that_reaches_it() -> None:
    rows = made_up(transfer_s=15.0)
    record = next(r for r in targets(rows) if r["method"] == HEAD and r["target"] == "best of scratch")
    assert record["accuracy"] == 40
    assert record["epochs"] == 1
    assert record["less_time_percent"] == pytest.approx(90.0)  # 15 s against 150 s
    other = next(r for r in targets(rows) if r["method"] == SCRATCH and r["target"] == "best of feature extraction")
    assert (other["seeds_that_reach_it"], other["epochs"], other["less_time_percent"]) == (0, None, None)


def test_an_accuracy_never_reached_has_no_time() -> None:
    assert reaching(made_up()[0], 41.0) is None
    assert reaching(made_up()[0], 40.0) == (3, 150.0)


def test_labels_saved_is_the_fewest_with_which_feature_extraction_equals_scratch_with_all() -> None:
    assert labels_saved(made_up()) == 5
    worse = [{**r, "test_accuracy": 0.0} if r["method"] == HEAD else r for r in made_up()]
    assert labels_saved(worse) is None


def test_scratch_that_was_best_in_its_last_epochs_had_not_finished() -> None:
    assert unfinished(made_up(best_epoch=3))
    assert not unfinished(made_up(best_epoch=0))


def test_differences_are_paired_by_seed() -> None:
    mean, sign = difference(made_up(), HEAD, SCRATCH, "all")
    assert (mean, sign) == (20.0, 1)
    assert difference(made_up(), HEAD, BLOCK, "all") == (0.0, 0)


def films(above: float) -> list[dict[str, Any]]:
    return [
        {
            "labels_per_class": "all",
            "method": method,
            "labels": 100,
            "auroc": 0.8,
            "low": 0.7,
            "high": 0.9,
            "above_scratch_low": above if method != SCRATCH else 0.0,
            "above_scratch_high": above + 0.1 if method != SCRATCH else 0.0,
        }
        for method in METHODS
    ]


def said(rows: list[dict[str, Any]], above: float = 0.02, *, folded: bool = False) -> str:
    return finding(
        {
            "trainings": rows,
            "network": "a network",
            "targets_s": targets(rows),
            "films": films(above),
            "films_synthetic": False,
            "batch_norm_folded": folded,
        }
    )


def test_the_claim_of_ninety_per_cent_is_confirmed_or_denied_by_the_measured_times() -> None:
    assert "'90 % less training time' holds here for every method and every seed" in said(made_up(transfer_s=1.0))
    assert "'90 % less training time' does not hold here for any method" in said(made_up(transfer_s=100.0))
    mixed = [r for r in made_up(transfer_s=1.0) if r["method"] != FULL or r["labels_per_class"] != "all"]
    mixed += [row(FULL, "all", seed, 60, [(60.0, 400.0)]) for seed in range(3)]
    assert "holds here for feature extraction, last block, not for full fine-tuning" in said(mixed)
    assert "full fine-tuning 167 % more" in said(mixed)


def test_the_words_turn_round_when_scratch_is_better() -> None:
    rows = [{**r, "test_accuracy": 90.0 + r["seed"]} if r["method"] == SCRATCH else r for r in made_up()]
    words = said(rows)
    assert "With 5 labels a class feature extraction loses against scratch (−45.0 points, 3 paired seeds)" in words
    assert "doesn't reach scratch with all labels" in words
    assert "feature extraction beats scratch (+20.0 points, 3 paired seeds)" in said(made_up())
    assert "(5 a class) is as good as scratch on 100: 10 times fewer" in said(made_up())


def test_the_words_on_films_follow_the_paired_intervals() -> None:
    assert "above scratch" in said(made_up(), above=0.02)
    assert "below scratch" in said(made_up(), above=-0.2)
    assert "no method is told apart from scratch" in said(made_up(), above=-0.05)


def test_folded_batch_normalisation_is_named_where_it_matters() -> None:
    assert "without normalisation" in said(made_up(), folded=True)
    assert "without normalisation" not in said(made_up())


def test_the_numbers_stand_beside_the_claim_and_its_lack_of_a_source() -> None:
    rows = made_up(transfer_s=15.0)
    found = numbers({"trainings": rows, "targets_s": targets(rows), "films": films(0.0)})
    claim = next(number for number in found if number.name.endswith(f"best validation accuracy, {HEAD}"))
    assert claim.value == pytest.approx(90.0)
    assert claim.published == "90 % less training time"
    assert "no primary source" in claim.source
    assert whole_saved(rows, HEAD) == pytest.approx([85.0] * 3)  # 30 s against 200 s
    assert summary(rows)[0]["train_test_gap"] == 10
