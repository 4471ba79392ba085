"""Fine-tuning in two stages: the whole study, small; VGG16 itself, small; and its counts at the published shape."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from hilum.errors import DataError, WeightsError
from hilum.models.encoders import build_encoder
from hilum.studies.bench import Bench, Request
from hilum.studies.running import run_request
from hilum.studies.transferring import Start
from hilum.studies.vgg16_flowers import SCALES, Scale, affordable, measured_rows, variants, weights_at_hand
from hilum.studies.vgg16_flowers_analysis import cached_saving, chosen_variant, phase_rows, shape_rows
from hilum.studies.vgg16_flowers_report import phases_figure
from hilum.studies.vgg16_flowers_words import finding, numbers, of_photographs

TINY = Scale(size=32, photos=30, test=12, gmacs=1e9, seeds=2, views=1, head_epochs=2, block_epochs=1)


def folder_of_photos(
    root: Path, parts: tuple[str, ...] = ("",), count: int = 8, classes: tuple[str, ...] = ("dark", "light")
) -> Path:
    """Noise, dark in one class and light in the other."""
    chance = np.random.default_rng(0)
    for part in parts:
        for number, name in enumerate(classes):
            place = root / part / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = chance.integers(120 * number, 120 * number + 120, (40, 44, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return root


def run_tiny(tmp_path: Path, scale: Scale = TINY, **request: Any) -> dict[str, Any]:
    asked = Request(study="vgg16-flowers", **request)
    return run_request(asked, tmp_path / "out", cache=tmp_path / "cache", download=False, scale=scale)


def test_the_whole_study_runs_small_on_a_folder_and_names_the_network_really_measured(tmp_path: Path) -> None:
    result = run_tiny(tmp_path, data=str(folder_of_photos(tmp_path / "mine", parts=("train", "val"))))
    assert result["title"] == "Fine-tuning hilum_small on mine in two stages"
    assert result["first_line"].startswith("REAL data: mine: 16 + 16 images from class folders")
    assert "hilum_small" in result["first_line"]
    assert "vgg16" in result["notes"][0]
    measured = result["measured"]
    assert [(row["variant"], row["phase"]) for row in measured["phases"]] == [
        (variant, phase)
        for variant in ("ours", "ours without augmentation", "classic recipe")
        for phase in ("head", "block")
    ]
    assert np.array(measured["confusion"]).sum() == 2 * 12
    assert {figure["name"] for figure in result["figures"]} == {"phases", "times", "curves", "networks", "confusion"}
    assert "Not vgg16 but hilum_small was measured" in result["finding"]
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result


def test_vgg16_itself_goes_through_the_classic_recipe_on_a_folder_split_by_hash(tmp_path: Path) -> None:
    scale = Scale(size=32, photos=None, test=None, gmacs=1e9, seeds=1, views=0, head_epochs=1, block_epochs=1)
    classic = variants(scale)[2]
    short = replace(
        classic, views=0, head=replace(classic.head, epochs=1, views=0), block=replace(classic.block, epochs=1, views=0)
    )
    bench = Bench(request=Request(study="vgg16-flowers"), parts=tmp_path / "parts", cache=tmp_path)
    images = bench.images("photographs", str(folder_of_photos(tmp_path / "mine", count=5)), size=32)
    rows = measured_rows(bench, scale, short, Start.random("vgg16", 0), images)
    assert [(row["phase"], row["network"], len(row["answers"])) for row in rows] == [
        ("head", "vgg16", len(images.test)),
        ("block", "vgg16", len(images.test)),
    ]
    assert "Split 80% / 20% by the SHA-256 of each file." in bench.sets[0].notes


@pytest.mark.long
def test_the_whole_study_runs_with_vgg16(tmp_path: Path) -> None:
    scale = Scale(size=64, photos=16, test=4, gmacs=1e9, seeds=1, views=0, head_epochs=1, block_epochs=1)
    result = run_tiny(tmp_path, scale, data=str(folder_of_photos(tmp_path / "mine")), backbone="vgg16", weights="none")
    assert result["title"].startswith("Fine-tuning vgg16 on mine")
    assert "vgg16 (random weights)" in result["first_line"]


@pytest.mark.parametrize(
    ("classes", "count", "message"),
    [
        (("dark",), 8, "one class folder"),
        (("dark", "light"), 2, "too few"),
        (("dark", "light"), 0, "no image in class dark, light"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused_and_nothing_is_written(
    tmp_path: Path, classes: tuple[str, ...], count: int, message: str
) -> None:
    folder = folder_of_photos(tmp_path / "mine", count=count, classes=classes)
    with pytest.raises(DataError, match=message):
        run_tiny(tmp_path, data=str(folder))
    assert not (tmp_path / "out").exists()


def test_published_weights_that_cannot_be_had_stop_the_study_with_url_and_mend(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"https://\S*vgg16\S*\.pth.*--weights FILE"):
        run_tiny(tmp_path, weights="imagenet")
    assert not (tmp_path / "out").exists()


def test_a_network_that_costs_more_gets_fewer_photographs() -> None:
    quick = SCALES["quick"]
    assert affordable("vgg16", quick) < 300 < affordable("mobilenet_v2", quick)


def test_vgg16_at_its_published_shape_has_the_known_parameters_and_macs() -> None:
    parts = {row["part"]: row for row in shape_rows("vgg16", 224, 5, 256)}
    frozen, last = parts["layers before the last block"], parts["last block"]
    assert frozen["parameters"] + last["parameters"] == 14_714_688  # 138,357,544 less three dense layers
    assert frozen["mmacs"] + last["mmacs"] == pytest.approx(15_346.63, abs=0.01)
    assert last["parameters"] == 3 * (512 * 512 * 9 + 512)
    assert parts["classic top: flatten, 256, classes"]["parameters"] == 7 * 7 * 512 * 256 + 256 + 256 * 5 + 5


def test_the_cache_saves_what_the_epochs_would_repeat() -> None:
    assert cached_saving("vgg16", 224, 1, (1.0, 0.0)) == 1.0
    assert cached_saving("vgg16", 224, 1, (5.0, 3.0)) == pytest.approx(
        (5 * 15346.63 + 3 * (15346.63 - 1387.27) + 9 * 1387.27) / (15346.63 + 9 * 1387.27), rel=1e-4
    )


def trainings(classic: float = 50.0, second: float = 2.0, plain: float = 0.0) -> list[dict[str, Any]]:
    """Three seeds of each variant and phase, as the study gives them."""
    base = {"ours": 70.0, "ours without augmentation": 70.0 + plain, "classic recipe": classic}
    return [
        {
            "network": "vgg16",
            "set": "Flowers",
            "variant": variant,
            "phase": phase,
            "seed": seed,
            "test_accuracy": value + seed + second * (phase == "block"),
            "train_accuracy": 99.0,
            "validation_accuracy": value,
            "epochs": 3,
            "macs": 1e9,
            "prefix_macs": 2e9,
            "prefix_s": 5.0,
            "phase_s": 1.0,
        }
        for variant, value in base.items()
        for seed in range(3)
        for phase in ("head", "block")
    ]


def said(rows: list[dict[str, Any]], **more: Any) -> str:
    return finding(
        {
            "network": "vgg16",
            "wanted": "vgg16",
            "set": "Flowers",
            "kind": "real",
            "labels": 100,
            "trainings": rows,
            "phases": phase_rows(rows),
            "networks": [],
            "cached_saving": 4.0,
            "confusion": [[8, 2], [0, 10]],
            "classes": ["daisy", "rose"],
            **more,
        }
    )


def test_the_words_follow_the_measurements_in_both_directions() -> None:
    assert "training the last block as well improves on it: 73.0 %, +2.0 points" in said(trainings())
    assert "training the last block as well makes it worse: 68.0 %, −3.0 points" in said(trainings(second=-3.0))
    assert "Augmentation makes no difference that the seeds tell from 0" in said(trainings())
    assert "Augmentation helps: +5.0 points" in said(trainings(plain=-5.0))
    assert "then 53.0 % right, below the commonly quoted 94–96 %" in said(trainings())
    assert "then 95.0 % right, within the commonly quoted 94–96 %" in said(trainings(classic=92.0))
    assert "the frozen layers take most" in said(trainings())
    assert "The commonest mistake is rose for daisy: 20 % of the test images of daisy" in said(trainings())
    assert "No test image is mistaken" in said(trainings(), confusion=[[8, 0], [0, 10]])


@pytest.mark.parametrize(("kind", "quoted"), [("real", ["90–92 %", "94–96 %"]), ("embedded", ["", ""])])
def test_photographs_alone_are_held_against_what_is_quoted(kind: str, quoted: list[str]) -> None:
    measured = {"network": "vgg16", "set": "Flowers", "kind": kind, "trainings": trainings(), "networks": []}
    classic = [one for one in numbers(measured) if one.name.endswith("classic recipe") and one.unit == "%"]
    assert [one.published for one in classic] == quoted
    assert all(bool(one.source) == (kind == "real") for one in classic)
    figure = phases_figure(phase_rows(trainings()), quoted=of_photographs(measured))
    assert ("94–96 %" in figure.caption) == (kind == "real")
    if kind == "embedded":
        assert "reads 51.0 % and then 53.0 % right; its second stage" in said(trainings(), kind=kind)


@pytest.mark.parametrize("name", ["vgg16-flowers", "vgg16-flowers@embedded"])
def test_the_kept_finding_is_that_of_the_kept_numbers(name: str) -> None:
    kept = json.loads((Path(__file__).parents[2] / "docs" / "topics" / "measured" / f"{name}.json").read_text())
    assert kept["finding"] == finding(kept["measured"])


def test_the_variant_is_chosen_on_validation_images() -> None:
    assert chosen_variant(trainings(classic=80.0)) == "classic recipe"
    assert chosen_variant(trainings()) == "ours"


def test_other_weights_in_the_data_root_are_measured_too_and_those_that_do_not_fit_are_told(tmp_path: Path) -> None:
    weights = tmp_path / "root" / "weights"
    weights.mkdir(parents=True)
    state = build_encoder("squeezenet1_1", 0).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, weights / "squeezenet1_1_mine.safetensors")
    save_file({"conv1.weight": state["features.0.weight"].contiguous()}, weights / "resnet18_part.safetensors")
    bench = Bench(
        request=Request(study="vgg16-flowers", data_dir=str(tmp_path / "root")), parts=tmp_path / "p", cache=tmp_path
    )
    found = weights_at_hand(bench, tmp_path / "root", Start.random("hilum_small", 0))
    assert [start.encoder.name for start in found] == ["squeezenet1_1"]
    assert bench.networks == ["squeezenet1_1 (weights: squeezenet1_1_mine.safetensors)"]
    assert "resnet18_part.safetensors doesn't fit" in bench.notes[0]
