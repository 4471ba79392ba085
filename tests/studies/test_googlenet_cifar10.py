"""The GoogLeNet study at a tiny scale, end to end, and the sentences that follow from made-up numbers."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from hilum.errors import UsageError
from hilum.studies import googlenet_cifar10 as study
from hilum.studies.bench import Bench, Request
from hilum.studies.googlenet_cifar10_anatomy import kernel_rows, reduction_rows
from hilum.studies.googlenet_cifar10_findings import finding, main_numbers, title
from hilum.studies.googlenet_cifar10_transfer import compare_pretrained
from hilum.studies.running import run_request

TINY = study.Scale(
    width=0.125,
    test=30,
    validation=20,
    train=20,
    epochs=2,
    seeds=1,
    course_train=30,
    course_epochs=6,
    sizes=(0.5,),
    probe=10,
    batch_size=10,
    transfer_size=32,
    aim_epochs=1,
    fast_epochs=1,
    leave_out=("dropout", "decay", "smoothing", "plateau", "all"),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One run for all tests."""
    folder = tmp_path_factory.mktemp("googlenet")
    request = Request(study="googlenet-cifar10")
    return folder, run_request(request, folder / "out", cache=folder / "cache", download=False, scale=TINY)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith(("_s", "seconds"))}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def test_the_header_has_its_labels() -> None:
    for label in ("Question", "Data", "Command", "Hardware", "Cost", "Seeds", "Expected"):
        assert re.search(rf"^{label}: \S", study.__doc__ or "", re.M), label


def test_the_report_names_data_and_network_and_holds_every_figure(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    assert result["first_line"].startswith("EMBEDDED data: Procedural images")
    assert (
        "GoogLeNet with a 32-pixel stem and 5×5 kernels, 0.125 × its channels, 2 early poolings" in result["first_line"]
    )
    assert "The published weights of googlenet can't be had here, so the shipped hilum_small" in result["first_line"]
    names = [figure["name"] for figure in result["figures"]]
    assert names == [
        "course", "learning-curve", "variants", "variant-curves", "confusion", "classes", "transfer", "reductions",
    ]  # fmt: skip
    assert all((folder / "out" / "figures" / f"{name}.png").stat().st_size > 5000 for name in names)
    page = (folder / "out" / "report.html").read_text()
    assert "pytorch/vision/issues/906" in page
    assert "7,005,832" in page
    assert result["title"].startswith("GoogLeNet on Procedural images, 30 training images: ")


def test_every_training_is_diagnosed_and_held_against_the_rule(done: tuple[Path, dict[str, Any]]) -> None:
    measured = done[1]["measured"]
    assert len(measured["trainings"]) == 4
    assert {one["diagnosis"]["verdict"] for one in measured["trainings"]} == {"not enough epochs to say"}
    assert measured["course"]["diagnosis"]["epochs"] == 6
    assert measured["course"]["diagnosis"]["gain_per_doubling"] is not None
    assert sum(map(sum, measured["course"]["best"]["confusion"])) == 30
    assert [row["training_images"] for row in measured["learning_curve"]] == [10, 20]
    tally = re.search(r"in (\d+), disagrees in (\d+) and says nothing in (\d+)", done[1]["finding"])
    assert tally
    assert sum(map(int, tally.groups())) == 5


def test_variants_of_a_seed_start_from_the_same_weights() -> None:
    """All that have a name and a shape in common, so that a pair differs in the variant alone."""
    base, auxiliary, three = (study.network_of(study.VARIANTS[i], TINY, 10, 3).state_dict() for i in range(3))
    assert len(auxiliary) > len(base)
    assert all(torch.equal(value, auxiliary[name]) for name, value in base.items())
    same = [name for name, value in base.items() if value.shape == three[name].shape]
    assert len(base) - len(same) == 9
    assert all(torch.equal(base[name], three[name]) for name in same)
    other = study.network_of(study.VARIANTS[0], TINY, 10, 4).state_dict()
    assert not torch.equal(base["fc.weight"], other["fc.weight"])


def test_each_variant_changes_one_thing_and_the_last_all_five() -> None:
    base = study.config_of(study.VARIANTS[0], TINY, 3)
    for variant in study.VARIANTS[1:-1]:
        config = study.config_of(variant, TINY, 3)
        differ = [name for name in base.__dataclass_fields__ if getattr(config, name) != getattr(base, name)]
        assert len(differ) + len(variant.network) == 1, variant.name
    last = study.config_of(study.VARIANTS[-1], TINY, 3)
    assert (last.label_smoothing, last.schedule, last.weight_decay) == (0.1, "plateau", TINY.weight_decay)
    assert last.augmentation is not None


def test_validation_images_are_never_fitted(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    bench = Bench(request=Request(study="googlenet-cifar10"), parts=tmp_path, cache=done[0] / "cache", download=False)
    parts = study.divide(bench, TINY)
    rows = {
        name: {image.tobytes() for image in getattr(parts, name).images} for name in ("validation", "course", "train")
    }
    assert not rows["validation"] & rows["course"]
    assert rows["train"] <= rows["course"]
    assert (len(parts.validation), len(parts.course), len(parts.train)) == (20, 30, 20)


def test_too_few_images_are_refused_by_name(tmp_path: Path) -> None:
    from dataclasses import replace

    bench = Bench(request=Request(study="googlenet-cifar10"), parts=tmp_path, cache=tmp_path, download=False)
    small = replace(TINY, train=12, course_train=12, validation=12)
    with pytest.raises(
        UsageError, match=r"has 24 training images in 10 classes: too few to keep two fifths .* Give 25 or more"
    ):
        study.divide(bench, small)


def test_seconds_until_a_target_add_up_to_the_epoch_that_reaches_it() -> None:
    rows = [{"seconds": 2.0, "watch_accuracy": a} for a in (0.5, 0.93, 0.94, 0.99)]
    assert study.seconds_until(rows, 0.94) == 6
    assert study.seconds_until(rows, 0.999) is None


def test_random_weights_leave_nothing_to_compare(tmp_path: Path) -> None:
    bench = Bench(
        request=Request(study="googlenet-cifar10", weights="none", backbone="hilum_small"),
        parts=tmp_path,
        cache=tmp_path,
    )
    found = compare_pretrained(bench, {}, classes=10, size=32, epochs=1, seeds=1, batch_size=8, fingerprint="")
    assert found == {"skipped": "Random weights were asked for (--weights none), so there is nothing to compare."}


def told(measured: dict[str, Any], **changes: Any) -> str:
    changed = copy.deepcopy(measured)
    for path, value in changes.items():
        target: Any = changed
        *keys, last = path.split("__")
        for key in keys:
            target = target[int(key) if key.isdigit() else key]
        target[last] = value
    return finding(changed)


def test_the_finding_follows_from_the_numbers(done: tuple[Path, dict[str, Any]]) -> None:
    measured = json.loads(json.dumps(done[1]["measured"]))
    regularisers = [i for i, row in enumerate(measured["variants"]) if row["kind"] == "regularisation"]
    assert "No regulariser is told apart" in told(
        measured, **{f"variants__{i}__{key}": 0 for i in regularisers for key in ("difference_told", "gap_told")}
    )
    better = told(
        measured,
        variants__3__difference_told=1,
        variants__3__difference={**measured["variants"][3]["difference"], "mean": 4.0},
    )
    assert "more test images right with flip and shift (+4.0 points)" in better
    assert "fewer with flip and shift" in told(measured, variants__3__difference_told=-1)
    assert "a smaller gap with flip and shift" in told(measured, variants__3__gap_told=-1)
    apart = told(measured, transfer__difference={"mean": 0.1, "low": 0.05, "high": 0.15, "pairs": 2})
    assert "the 2 pairs tell the two apart" in apart
    assert "the 2 pairs do not tell the two apart" in told(
        measured, transfer__difference={"mean": 0.1, "low": -0.05, "high": 0.15, "pairs": 2}
    )
    assert "reaches 95 % of the test images (95.10 %)" in told(measured, aim__accuracy=0.951)
    assert "does not reach 95 %" in told(measured, aim__accuracy=0.93)
    assert "say nothing of what GoogLeNet reaches at full size" in told(measured, aim=None)
    assert "which the pairs tell apart from none" in told(measured, variants__1__difference_told=1)
    small = {f"variants__{i}__gaps": [50.0] for i in range(4)} | {
        f"variants__{i}__test_accuracies": [20.0] for i in range(4)
    }
    both = {**small, "variants__1__gaps": [5.0], "variants__1__test_accuracies": [40.0]}
    assert "The smallest gap goes with the most test images right: auxiliary classifiers (5.0 points" in told(
        measured, **both
    )
    apart = {**small, "variants__1__gaps": [5.0], "variants__2__test_accuracies": [40.0]}
    assert "the most test images right has 3×3 for 5×5 (50.0 points, 40.0 % right)" in told(measured, **apart)


def test_published_accuracies_stand_beside_those_of_cifar_10_alone(done: tuple[Path, dict[str, Any]]) -> None:
    measured = json.loads(json.dumps(done[1]["measured"]))
    assert main_numbers(measured)[0].published == ""
    measured["data"]["name"] = "cifar10"
    first = main_numbers(measured)[0]
    assert "95.35 %" in first.published
    assert "not run here" in first.source
    assert title({**measured, "data": {**measured["data"], "title": "CIFAR-10 (JPEG)"}}).startswith(
        "GoogLeNet on CIFAR-10 (JPEG)"
    )


def test_counts_come_from_the_networks() -> None:
    three, five = kernel_rows()
    assert (three["parameters"], three["with both auxiliary classifiers"]) == (6_624_904, 13_004_888)
    assert five["parameters"] == 7_005_832
    assert five["with both auxiliary classifiers"] - five["parameters"] == 13_004_888 - 6_624_904
    first = reduction_rows()[0]
    assert (first["block"], first["million MACs"], first["without reductions"]) == ("3a", 128.0, 303.5)


@pytest.mark.long
def test_the_same_seed_gives_the_same_numbers(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    again = run_request(
        Request(study="googlenet-cifar10"), tmp_path / "out", cache=done[0] / "cache", download=False, scale=TINY
    )
    assert without_times(again["measured"]) == without_times(done[1]["measured"])
