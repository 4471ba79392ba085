"""The study of residual connections: the whole of it on a few images, and sentences that go with what was measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from hilum.studies.bench import Bench, Request
from hilum.studies.residual_gradients import Material, Scale, trainings
from hilum.studies.residual_gradients_tables import plainly, without_gaps
from hilum.studies.residual_gradients_words import (
    best_rates,
    blame_words,
    compared,
    depth_words,
    further,
    hurt_words,
    norm_words,
    start_words,
)
from hilum.studies.running import run_request

TINY = Scale(
    train=48, test=30, start_depths=(8, 14), start_seeds=1, start_batch=8, gains=(1.0, 4.0), gain_depth=14,
    depths=((8, 2), (14, 1)), epochs=1, batch=16, side_depth=8, side_seeds=1, rates=(0.1,), families=("resnet18",),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study on 48 + 30 procedural images."""
    root = tmp_path_factory.mktemp("residual")
    request = Request(study="residual-gradients")
    run_request(request, root / "out", cache=root / "cache", download=False, scale=TINY)
    return root / "out"


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return values


def test_the_report_holds_every_part_that_the_issue_asks_for(folder: Path, result: dict[str, Any]) -> None:
    assert result["first_line"].startswith("EMBEDDED data: ")
    assert "plain and residual nets of 8, 14 layers, width factor 0.5 (random weights)" in result["first_line"]
    assert {figure["name"] for figure in result["figures"]} == {"start", "during", "gains", "degradation"}
    page = (folder / "report.html").read_text()
    for part in ("during training", "One block", "too large", "Error against depth", "identity or projection",
                 "BatchNorm on and off", "ResNet, ResNeXt, DenseNet"):  # fmt: skip
        assert part in page
    measured = result["measured"]
    assert {row["network"] for row in measured["start"]} == {
        "plain, no BatchNorm", "plain, BatchNorm", "residual, no BatchNorm", "residual, BatchNorm",
    }  # fmt: skip
    assert {row["step"] for row in measured["during"]} == {0, 1, 3}
    assert len(measured["shortcuts"]) == 5
    assert measured["families"] == [
        {"network": "resnet18", "year": 2016, "block": "basic", "layers": 18, "parameters": 11_689_512,
         "gmacs": pytest.approx(1.814, abs=1e-3), "published_top1_error": "27.88"}
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path, result: dict[str, Any]) -> None:
    bench = Bench(request=Request(study="residual-gradients"), parts=tmp_path, cache=tmp_path, download=False)
    images = bench.images("small-images", size=TINY.size, train=TINY.train, test=TINY.test)
    again = trainings(bench, TINY, Material.of(images, TINY.start_batch, bench.device))
    runs = [plainly(run) for part in ("degradation", "shortcuts", "rates") for run in again[part]]
    for run in (*runs, *result["measured"]["runs"]):
        run.pop("fit_s")
    assert without_gaps(runs) == result["measured"]["runs"]
    assert len({json.dumps(run["loss"]) for run in runs}) > len(runs) / 2


def test_the_identity_is_measured_to_ten_digits(result: dict[str, Any]) -> None:
    rows = result["measured"]["blocks"]
    assert all(row["formula_off_by"] < 1e-10 for row in rows)
    assert all(row["differences_off_by"] < 1e-6 for row in rows)
    assert [row["shortcut_from_identity"] == 0 for row in rows] == [True] * 4 + [False] * 2
    assert [row["without_mask_off_by"] > 0.1 for row in rows] == [False] * 2 + [True] * 4


def test_block_designs_cost_what_the_papers_say(result: dict[str, Any]) -> None:
    """Weights by hand, each convolution with a BatchNorm of two numbers a channel."""
    basic, wide, neck, _, dense = (row["parameters"] for row in result["measured"]["designs"])
    assert basic == 2 * 9 * 64 * 64 + 2 * 2 * 64
    assert wide == 2 * 9 * 256 * 256 + 2 * 2 * 256
    assert neck == 2 * 64 * 256 + 9 * 64 * 64 + 2 * (64 + 64 + 256)
    assert dense == 256 * 128 + 9 * 128 * 32 + 2 * (256 + 128)


def start(growths: dict[str, tuple[float | None, float | None]]) -> dict[str, Any]:
    rows = [
        {"kind": kind, "depth": depth, "seed": 0, "grown": grown}
        for kind, pair in growths.items()
        for depth, grown in zip((56, 66), pair, strict=True)
    ]
    return {"start": rows, "settings": {"gain_depth": 56, "steps": 100, "side_depth": 20}}


def test_the_gradients_fate_is_told_by_what_further_layers_do() -> None:
    measured = start({"plain, no BatchNorm": (0.1, 0.05), "plain": (10.0, 100.0), "residual": (20.0, 21.0)})
    assert further(measured["start"], "plain") == pytest.approx(10**0.1)
    told, moral = start_words(measured)
    assert "Plain, no BatchNorm: × 0.1, and × 0.933 for each further layer (it vanishes)" in told
    assert "plain, BatchNorm: × 10, and × 1.259 for each further layer (it explodes)" in told
    assert "residual, BatchNorm: × 20, and × 1.005 for each further layer (it keeps its size)" in told
    assert moral == "So neither shortcuts nor BatchNorm alone keep its size; the two together do."


def test_the_moral_turns_with_the_measurement() -> None:
    both = start({"plain": (1.0, 1.0), "residual": (1.0, 1.0)})
    assert start_words(both)[1] == "So its size is kept in: plain, BatchNorm; residual, BatchNorm."
    none = start({"plain": (1.0, 3.0), "residual": (1.0, 3.0)})
    assert start_words(none)[1] == "So none of the four keeps its size."


def run(kind: str, depth: int, train: float, right: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    """One training whose net has the first ``right`` of 100 test images right."""
    answers = [1] * right + [0] * (100 - right)
    known = {"kind": kind, "depth": depth, "seed": seed, "lr": 0.1, "diverged": "", "train_error": train}
    return {**known, "test_error": 100.0 - right, "right": answers, "start": {"grown": 5000.0}, **more}


def trained(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"degradation": list(runs), "settings": {"steps": 100, "side_depth": 20}}


def test_more_layers_hurt_only_where_the_answers_differ_beyond_chance() -> None:
    sure = trained(run("residual", 8, 10, 70), run("residual", 20, 5, 75), run("residual", 56, 20, 50))
    words = hurt_words(sure)
    assert words.startswith('"More layers never hurt" is refuted at 100 steps')
    assert "from 20 to 56 layers by 25.0 points (beyond chance, sign test with each of 1 seed)" in words
    assert "from 8 to 20" not in words
    slight = trained(run("residual", 8, 10, 70), run("residual", 20, 5, 68))
    assert "is neither refuted nor shown at 100 steps" in hurt_words(slight)
    assert "by 2.0 points (within chance" in hurt_words(slight)
    better = trained(run("residual", 8, 10, 70), run("residual", 20, 5, 72))
    assert hurt_words(better).startswith("More layers did not hurt the residual nets here")


def test_one_seed_that_disagrees_is_not_beyond_chance() -> None:
    runs = [run("residual", 8, 10, 70, s) for s in (0, 1)] + [
        run("residual", 20, 5, r, s) for s, r in ((0, 40), (1, 72))
    ]
    assert "by 14.0 points (within chance, sign test with each of 2 seeds)" in hurt_words(trained(*runs))


def test_degradation_is_a_training_error_that_rises_with_depth() -> None:
    residual = (run("residual", 8, 30, 70), run("residual", 56, 20, 75))
    worse = depth_words(trained(run("plain", 8, 30, 70), run("plain", 56, 90, 10), *residual))
    assert "plain nets by depth: 30 % at 8, 90 % at 56; of the residual nets: 30 % at 8, 20 % at 56" in worse
    assert "So plain nets degrade" in worse
    better = depth_words(trained(run("plain", 8, 30, 70), run("plain", 56, 20, 70), *residual))
    assert "So these plain nets do not degrade" in better


def test_vanishing_is_blamed_only_where_it_is_measured() -> None:
    runs = (run("plain", 8, 30, 70), run("plain", 56, 90, 10, during={"1": {"grown": 2.0}, "9": {"grown": 0.5}}))
    words = blame_words(trained(*runs))
    assert "but not because its gradient vanishes: the gradient at its first block is 5,000 times" in words
    assert "0.5 times after step 9" in words
    faded = (runs[0], {**runs[1], "during": {"9": {"grown": 0.001}}})
    assert "where the gradient at its first block" in blame_words(trained(*faded))
    lost = (runs[0], {**runs[1], "diverged": "The loss is nan"})
    assert blame_words(trained(*lost)) == "The plain net of 56 layers diverged."


def test_kinds_are_compared_seed_by_seed() -> None:
    first, second = [run("C", 20, 1, 40)], [run("A", 20, 1, 70)]
    assert compared(first, second, "C", "A") == "C errs 30.0 points more than A (1 seed)"
    assert compared([run("C", 20, 1, 69)], second, "C", "A") == "C and A can't be told apart (+1.0 points, 1 seed)"
    assert compared([run("C", 20, 1, 9, diverged="nan")], second, "C", "A").startswith("C can't be compared with A")


def test_the_learning_rate_is_chosen_on_held_out_images() -> None:
    rates = [
        run("plain", 20, 1, 40, watch_error=50.0) | {"lr": 0.1},
        run("plain", 20, 1, 30, watch_error=45.0) | {"lr": 0.01},
        run("plain, no BatchNorm", 20, 1, 60, diverged="nan") | {"lr": 0.1},
        run("residual", 20, 1, 80, watch_error=20.0),
        run("residual, no BatchNorm", 20, 1, 60, watch_error=41.0) | {"lr": 0.01},
    ]
    assert best_rates(rates)["plain"]["lr"] == 0.01
    words = norm_words({"rates": rates, "settings": {"side_depth": 20}})
    assert "plain without BatchNorm trains at none of the learning rates tried" in words
    assert "residual 40 % without (learning rate 0.01), 20 % with it (0.1)" in words


def test_what_json_does_not_know_becomes_none() -> None:
    assert without_gaps({"a": [float("inf"), 1.0], "b": float("nan"), "c": "x"}) == {
        "a": [None, 1.0],
        "b": None,
        "c": "x",
    }
