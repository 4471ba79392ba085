"""The study of AlexNet and VGG: published counts, sentences that follow the numbers, and the whole study on little."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hilum.errors import TrainingError, WeightsError
from hilum.models.encoders import build_encoder
from hilum.studies import alexnet_vs_vgg_fits as fits
from hilum.studies.alexnet_vs_vgg import Scale
from hilum.studies.alexnet_vs_vgg_costs import input_sizes, kernel_dicts, live_bytes, neurons, output_bytes, timed
from hilum.studies.alexnet_vs_vgg_fits import (
    BASE,
    NORMED,
    PLAIN,
    Race,
    Trial,
    ablation_trials,
    config_of,
    depth_trials,
    epochs_to,
    train,
)
from hilum.studies.alexnet_vs_vgg_published import published_dicts, weights_facts
from hilum.studies.alexnet_vs_vgg_transfer import published_features, published_sources
from hilum.studies.alexnet_vs_vgg_words import (
    ablation_words,
    depth_words,
    memory_words,
    race_words,
    stack_words,
    time_words,
    transfer_words,
)
from hilum.studies.bench import Bench, Request
from hilum.studies.running import run_request

TINY = Scale(
    compared=("alexnet_2012", "alexnet"),
    timed=("squeezenet1_1",),
    repeats=((1, 2), (2, 2)),
    train=40,
    test=30,
    width=0.0625,
    probe=20,
    race=Race(epochs=1, relu_rates=(0.01,), tanh_rates=(0.01,), targets=(99.0, 1.0), seeds=2, width=0.125),
    ablation=(1, 1),
    depths=(11, 19),
    depth=(1, 1),
    small_start=(11,),
    stacks=(1, 1),
    target=(40, 30),
)


def timeless(value: Any) -> Any:
    """Without times, which differ from run to run."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if not key.endswith(("_s", "_ms", "_per_s"))}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study on 40 + 30 procedural images."""
    root = tmp_path_factory.mktemp("alexnet-vs-vgg")
    run_request(Request(study="alexnet-vs-vgg"), root / "out", cache=root / "cache", download=False, scale=TINY)
    return root / "out"


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return values


def bench_at(tmp_path: Path, **fields: Any) -> Bench:
    return Bench(
        request=Request(study="alexnet-vs-vgg", **fields), parts=tmp_path / "parts", cache=tmp_path, download=False
    )


def test_report_says_what_was_measured_and_that_the_images_are_embedded(folder: Path, result: dict[str, Any]) -> None:
    assert result["first_line"].startswith("EMBEDDED data: ")
    assert "1/16 of the channels (random weights, trained here)" in result["first_line"]
    assert result["finding"] in (folder / "report.html").read_text().replace("&#39;", "'").replace("&#34;", '"')
    names = {figure["name"] for figure in result["figures"]}
    assert {"classifier", "latency", "memory", "stacks", "race", "ablation", "depth", "transfer"} <= names
    assert result["key_figure"] == "classifier"
    assert "Without published weights of alexnet, vgg16, vgg19, transfer was measured on" in result["first_line"]


def test_counts_stand_beside_the_published_ones_and_agree(result: dict[str, Any]) -> None:
    numbers = {number["name"]: number for number in result["numbers"]}
    for name, count in (("AlexNet 2014 (one tower)", 61_100_840), ("AlexNet 2012 (two GPUs)", 60_965_224)):
        assert numbers[f"parameters, {name}"]["value"] == count
        assert numbers[f"parameters, {name}"]["published"] == f"{count:,}"
    assert numbers["multiply-accumulates of one image, AlexNet 2014 (one tower)"]["value"] == pytest.approx(
        0.714, abs=5e-4
    )


def test_every_variant_every_depth_and_every_stack_was_measured(result: dict[str, Any]) -> None:
    measured = result["measured"]
    assert measured["ablation"][0]["name"] == BASE
    assert len(measured["ablation"]) == 7
    assert {(row["depth"], row["kind"]) for row in measured["depth"]} == {
        (depth, kind) for depth in (11, 19) for kind in (PLAIN, NORMED)
    } | {(11, fits.SMALL_START)}
    assert [row["each_stage"] for row in measured["stack_table"]] == [name for name, *_ in fits.STACKS]
    assert [row["training_error"] for row in measured["race"]["summary"]] == [99.0, 1.0]
    assert measured["latency"][0]["fastest_ms"] <= measured["latency"][0]["median_ms"]
    assert {row["batch"] for row in measured["memory"]} == {1, 32}


def test_transfer_says_what_was_probed_and_why_not_the_published_weights(result: dict[str, Any]) -> None:
    measured = result["measured"]
    assert [row["network"] for row in measured["not_probed"]] == ["alexnet", "vgg16", "vgg19"]
    assert all(row["reason"] for row in measured["not_probed"])
    assert "published weights of alexnet, vgg16 and vgg19 could not be had" in result["finding"]
    assert measured["transfer"][-1]["network"] == "none: the pixels themselves"
    assert {row["target"] for row in measured["transfer"]} == {"scikit-learn's digits"}


def test_one_training_gives_the_same_numbers_again(tmp_path: Path) -> None:
    found = []
    for number in range(2):
        bench = bench_at(tmp_path / str(number))
        images = bench.images("small-images", size=32, train=40, test=20)
        trial = ablation_trials(1, 1, 0.0625, 32)[6]
        values, network = train(bench, images, trial, 20)
        found.append((timeless(values), network.state_dict()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1].values(), found[1][1].values(), strict=True))


def test_trials_of_a_seed_begin_with_the_same_weights(tmp_path: Path) -> None:
    begun = []
    for trial in ablation_trials(1, 2, 0.0625, 32)[:9]:
        network = trial.build(num_classes=10)
        generator = fits.generator_from(fits.seed_for(0, "alexnet-vs-vgg", trial.family, trial.repeat))
        fits.initialise(network, generator)
        begun.append(next(network.parameters()))
    assert all(torch.equal(begun[0], other) for other in begun[1:7])
    assert not torch.equal(begun[0], begun[7])


def test_spread_of_the_small_start_grows_as_the_channels_shrink() -> None:
    """A layer of C channels passes on spread·√(9·C/2): an eighth of the channels need √8 times the spread."""
    _, _, trial = next(
        found
        for found in depth_trials((19,), 1, 1, width=0.125, size=32, small_start=(19,))
        if found[1] == fits.SMALL_START
    )
    layer = trial.build().features[0]
    assert layer.spread == pytest.approx(0.01 * math.sqrt(8))


def test_a_training_that_diverges_is_reported_and_does_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TrainingError("The loss is nan in stage 'fit'.")

    monkeypatch.setattr(fits, "fit_network", fail)
    bench = bench_at(tmp_path)
    images = bench.images("small-images", size=32, train=20, test=20)
    trial = Trial(family="x", name="x", build=fits.FourLayerNet, config=config_of(1.0, 1))
    values, _ = train(bench, images, trial, 20)
    assert values["diverged"] == "The loss is nan in stage 'fit'."
    assert (values["trained"], values["test_error"]) == (False, None)


def test_epochs_to_an_error_by_hand() -> None:
    assert epochs_to([70, 40, 20], 55, 90) == pytest.approx(1.5)
    assert epochs_to([70, 40, 20], 80, 90) == pytest.approx(0.5)
    assert epochs_to([70, 40, 20], 10, 90) is None
    assert epochs_to([70], 95, 90) == 0


def test_racers_choose_their_own_rate_and_say_when_it_is_the_outermost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ReLU is fastest at its lowest rate, tanh at its middle one; of two seeds one pair reached 25 %."""
    curves = {"relu, rate 0.01": [60, 20], "relu, rate 0.1": [80, 70], "tanh, rate 0.01": [80, 70],
              "tanh, rate 0.1": [70, 24], "tanh, rate 1": [89, 90]}  # fmt: skip

    def fitted(bench: Bench, images: Any, trial: Trial, probe: int) -> tuple[dict[str, Any], None]:
        errors = curves[trial.name] if trial.repeat == 0 else [80, 60]
        return {"name": trial.name, "repeat": trial.repeat, "lr": trial.config.lr, "train_errors": errors}, None

    monkeypatch.setattr(fits, "train", fitted)
    settings = Race(epochs=2, relu_rates=(0.01, 0.1), tanh_rates=(0.01, 0.1, 1.0), targets=(25.0,), seeds=2, width=0.5)
    found = fits.race(bench_at(tmp_path), SimpleNamespace(classes=range(10)), settings, 10)
    assert found["chosen"] == {"relu": 0.01, "tanh": 0.1}
    assert found["chosen_at_edge"] == ["relu"]
    (row,) = found["summary"]
    assert (row["both_reached"], row["relu_reached"], row["tanh_reached"]) == (1, 1, 1)
    assert row["tanh_over_relu"] == pytest.approx((1 + 45 / 46) / (1 + 35 / 40))


def test_first_map_needs_227_pixels_or_padding() -> None:
    rows = {(row["input_px"], row["padding_px"]): row for row in input_sizes()}
    assert rows[227, 0]["arithmetic"] == "(227 − 11)/4 + 1 = 55"
    assert [rows[key]["first_map_px"] for key in ((227, 0), (224, 0), (224, 2))] == [55, 54, 55]
    assert [rows[key]["fits_fc6"] for key in ((227, 0), (224, 0), (224, 2))] == [True, False, True]
    assert all(row["checked_by_running"] for row in rows.values())
    assert [row["agree"] for row in neurons()] == [False, True, True, True, True]


def test_stacks_see_as_far_with_fewer_weights() -> None:
    two, five, three, seven = kernel_dicts()
    assert two["receptive_field_px"] == five["receptive_field_px"] == 5
    assert three["receptive_field_px"] == seven["receptive_field_px"] == 7
    assert two["weights_for_512_maps"] / five["weights_for_512_maps"] == 18 / 25
    assert three["weights_for_512_maps"] / seven["weights_for_512_maps"] == 27 / 49


def test_outputs_of_vgg16_add_up_to_61_megabytes_by_hand() -> None:
    """Image, two or three maps a stage and its pooling, three dense layers; the ReLUs write in place."""
    values = 3 * 224**2
    for count, channels, side in ((2, 64, 224), (2, 128, 112), (3, 256, 56), (3, 512, 28), (3, 512, 14)):
        values += count * channels * side**2 + channels * (side // 2) ** 2
    values += 512 * 49 + 4096 + 4096 + 1000  # torchvision's adaptive pooling hands its input on as an output of its own
    assert output_bytes("vgg16") == 4 * values
    assert live_bytes("vgg16") == 4 * 2 * 64 * 224**2


def test_timing_notes_the_classifier_inside_the_whole() -> None:
    network = nn.Sequential()
    network.features, network.classifier = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 2))
    network.forward = lambda images: network.classifier(network.features(images))
    found = timed(network.eval(), torch.randn(2, 3, 8, 8), 3)
    assert 0 < found["classifier_ms"] < found["median_ms"]
    assert found["fastest_ms"] <= found["median_ms"] <= found["slowest_ms"]
    assert found["images_per_s"] == pytest.approx(2000 / found["median_ms"])
    assert not network.classifier._forward_hooks


def test_published_errors_name_split_nets_and_crops() -> None:
    rows = published_dicts()
    assert {row["split"] for row in rows} == {"val", "test"}
    by = {(row["network"].split(",")[0], row["nets"], row["split"], row["top_5_error"]) for row in rows}
    assert {("AlexNet", 7, "test", 15.3), ("AlexNet", 1, "val", 18.2), ("AlexNet", 5, "val", 16.4)} <= by
    assert {("VGG", 7, "test", 7.3), ("VGG16", 1, "val", 7.5), ("VGG19", 1, "val", 7.1)} <= by
    assert all(row["source"] and row["checked"] and row["evaluation"] for row in rows)
    assert weights_facts()["vgg16"]["file_mib"] == pytest.approx(138_357_544 * 4 / 2**20, abs=0.05)


def test_published_weights_in_the_data_root_are_found_and_probed(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    encoder = build_encoder("squeezenet1_1", 3)
    save_file(encoder.state_dict(), tmp_path / "weights" / "squeezenet1_1_test.safetensors")
    bench = bench_at(tmp_path, data_dir=str(tmp_path))
    sources, missing = published_sources(bench, ("squeezenet1_1", "alexnet"))
    assert list(sources) == ["squeezenet1_1"]
    assert [row["network"] for row in missing] == ["alexnet"]
    assert "--weights imagenet says where they are" in missing[0]["reason"]
    features, name = published_features(bench, "squeezenet1_1", sources["squeezenet1_1"])
    assert name == "squeezenet1_1_test.safetensors"
    assert features(np.zeros((2, 3, 64, 64), dtype=np.uint8)).shape == (2, 512)


def test_weights_asked_for_by_name_must_be_had(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        published_sources(bench_at(tmp_path, weights="imagenet"), ("alexnet",))
    _, missing = published_sources(bench_at(tmp_path, weights="none"), ("vgg16",))
    assert missing == [{"network": "vgg16", "reason": "--weights none asks for no published weights."}]


def test_weights_without_their_normalisation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"weights of lenet5 from none don't say how images are normalised"):
        published_features(bench_at(tmp_path), "lenet5", "none")


def summary(relu: float | None, tanh: float | None, low: float = 2, high: float = 3) -> dict[str, Any]:
    both = 2 if relu and tanh else 0
    return {
        "training_error": 25.0, "seeds": 2, "both_reached": both, "relu_epochs": relu, "tanh_epochs": tanh,
        "relu_reached": 2 if relu else 0, "tanh_reached": 2 if tanh else 0, "ratio_low": low, "ratio_high": high,
        "tanh_over_relu": (low + high) / 2,
    }  # fmt: skip


def test_words_on_the_race_follow_the_ratio() -> None:
    assert "Tanh took longer: 9.0 epochs" in race_words([summary(3, 9)])
    assert "Tanh was faster" in race_words([summary(9, 3, 0.3, 0.5)])
    assert "neither clearly faster nor slower" in race_words([summary(3, 3, 0.9, 1.2)])
    assert race_words([summary(3, None)]) == "Only ReLU reached a training error of 25 %."
    assert "neither is called faster" in race_words([summary(None, None)])
    easier = {**summary(3, 9), "training_error": 50.0}
    assert "25 % was reached by 2 of 2 seeds with ReLU and 0 with tanh" in race_words([easier, summary(3, None)])


def row(name: str, errors: list[float | None]) -> list[dict[str, Any]]:
    return [{"name": name, "test_error": error, "trained": error is not None} for error in errors]


def test_words_on_the_ablation_need_seeds_that_agree() -> None:
    settings = {"ablation_seeds": 3, "ablation_epochs": 8}
    rows = row(BASE, [50, 51, 52]) + row("worse", [60, 61, 62.1]) + row("better", [40, 41, 42.1])
    rows += row("mixed", [40, 60, 55]) + row("lost", [50, None, 50])
    words = ablation_words({"ablation": rows, "settings": settings})
    assert "fell better (−10.0 points)" in words
    assert "rose worse (+10.0 points)" in words
    assert "can't be told apart by 3 seeds from no change mixed and lost" in words


def net(depth: int, kind: str, error: float, trained: bool) -> dict[str, Any]:
    loss = 1.5 if trained else 2.31
    return {"depth": depth, "kind": kind, "test_error": error, "trained": trained, "losses": [2.4, loss]}


def test_words_on_depth_say_which_nets_failed_and_whether_depth_helped() -> None:
    rows = [net(11, PLAIN, 60, True), net(19, PLAIN, 90, False), net(11, NORMED, 50, True), net(19, NORMED, 40, True)]
    measured = {"depth": rows, "settings": {"classes": 10, "test": 1000}}
    words = depth_words(measured)
    assert "Without BatchNorm VGG19 failed to train (loss at the end up to 2.31; guessing has 2.30)." in words
    assert "With BatchNorm VGG11 and VGG19 trained. With BatchNorm one seed can't say whether more layers" in words
    more = [(11, 51), (11, 52), (19, 41.1), (19, 42)]
    rows += [net(depth, NORMED, error, True) for depth, error in more]
    assert "With BatchNorm more layers lowered the test error: 51.0 % with 11 layers, 41.0 %" in depth_words(measured)
    for row in rows:
        row["test_error"] = (
            150 - row["test_error"] if row["kind"] == NORMED and row["depth"] == 19 else row["test_error"]
        )
    assert "more layers raised the test error: 51.0 % with 11 layers, 109.0 % with 19" in depth_words(measured)
    rows[3]["test_error"] = 0
    assert "the seeds don't tell whether more layers changed the test error" in depth_words(measured)


def test_words_on_stacks_rank_only_by_pairs_of_seeds() -> None:
    one = row("two 3×3", [40]) + row("one 5×5", [50])
    words = stack_words({"stacks": one})
    assert words == "Stages of two 3×3 40.0 % test error, of one 5×5 50.0 %: one seed can't rank them."
    several = row("three 3×3", [50, 51, 52.1]) + row("one 7×7", [40, 41, 42])
    assert "one 7×7 41.0 %: the first higher beyond what seeds do." in stack_words({"stacks": several})
    several = row("two 3×3", [40, 41, 42.1]) + row("two 3×3, no ReLU between", [50, 51, 52])
    assert "the first lower beyond what seeds do" in stack_words({"stacks": several})
    mixed = row("two 3×3", [40, 60, 50]) + row("one 5×5", [50, 50, 50])
    assert "the seeds don't tell them apart" in stack_words({"stacks": mixed})
    one[0]["trained"] = False
    assert "did not both train, so they are not compared" in stack_words({"stacks": one})


def probed(network: str, weights: str, right: int) -> dict[str, Any]:
    accuracy = right / 10
    return {
        "network": network, "weights": weights, "right": right, "accuracy": accuracy, "low": accuracy - 3,
        "high": accuracy + 3, "target": "Flowers",
    }  # fmt: skip


def test_words_on_transfer_compare_with_what_learned_nothing() -> None:
    rows = [probed("small AlexNet", "trained here", 700), probed("small AlexNet", "random", 500)]
    missing = [{"network": "vgg16", "reason": "no"}]
    words = transfer_words({"transfer": rows, "not_probed": missing})
    assert "read small AlexNet 70 % from features learned elsewhere; the best is above the best" in words
    assert "The published weights of vgg16 could not be had" in words
    rows.append(probed("none: the pixels themselves", "none", 900))
    assert "the best is below the best that learned nothing (pixels, 90 %)" in transfer_words(
        {"transfer": rows, "not_probed": []}
    )


def test_words_on_time_say_whether_a_batch_shares_the_weights() -> None:
    one = {"network": "AlexNet", "batch": 1, "median_ms": 40.0, "classifier_ms": 16.0}
    eight = {"network": "AlexNet", "batch": 8, "median_ms": 160.0, "classifier_ms": 40.0}
    words = time_words([one, eight])
    assert "One image takes AlexNet 40 ms here (median)." in words
    assert "40 % of AlexNet's time at a batch of 1 and 25 % at 8: 16.0 and 5.0 ms an image" in words
    assert "a batch of 8 saves fetching" in words
    assert "a batch of 8 does not save fetching" in time_words([one, {**eight, "classifier_ms": 128.0}])


def test_words_on_memory_are_of_vgg16_alone() -> None:
    known = {"network": "VGG16", "weights_mb": 553.4, "weights_mib": 527.8, "answering_one_image_mb": 579.0}
    words = memory_words({"folklore": [{**known, "training_batch_1_mb": 2287.0, "training_batch_32_mb": 4561.0}]})
    assert 'VGG16\'s "500 MB" are its weights: 553 MB or 528 MiB' in words
    assert memory_words({"folklore": [{"network": "AlexNet"}]}) == ""
