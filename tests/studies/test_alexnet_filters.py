"""The study of filters: what it names, what it compares, the pictures it takes, and the whole study on a few images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hilum.datasets.procedural import ProceduralConfig, procedural_ten
from hilum.errors import DataError, UsageError, WeightsError
from hilum.models.encoders import build_encoder
from hilum.studies.alexnet_filters import Scale, look
from hilum.studies.alexnet_filters_finding import finding, main_numbers
from hilum.studies.alexnet_filters_layers import FilterLayer, answering, convolutions, labels_of, thinned
from hilum.studies.alexnet_filters_subject import (
    FIRST_STD,
    TrainingScale,
    picture_of,
    relative_cost,
    small_head,
    starting_encoder,
)
from hilum.studies.bench import Bench, Request
from hilum.studies.running import run_request

TINY = Scale(
    training=TrainingScale(side=64, images=20, seen=40, test=20),
    convolutions=3,
    filters=4,
    searched=10,
    drawn=10,
    watched=4,
    patches=2,
)


def bench_at(folder: Path, **fields: Any) -> Bench:
    request = Request(study="alexnet-filters", **fields)
    return Bench(request=request, parts=folder / "parts", cache=folder / "cache", download=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alexnet-filters")


@pytest.fixture(scope="module")
def result(root: Path) -> dict[str, Any]:
    """The whole study on a few procedural images."""
    run_request(Request(study="alexnet-filters"), root / "out", cache=root / "cache", download=False, scale=TINY)
    values: dict[str, Any] = json.loads((root / "out" / "result.json").read_text())
    return values


def test_title_first_line_and_notes_say_that_the_network_was_trained_here(result: dict[str, Any]) -> None:
    assert result["title"] == "Filters and feature maps of AlexNet trained here for 4 steps on procedural images"
    assert result["first_line"].startswith("EMBEDDED data: Procedural images: 20 + 20 synthetic colour images")
    assert "EMBEDDED data: The picture that is explained is procedural image" in result["first_line"]
    assert "its convolutions as published, a small head, trained here for 4 steps" in result["first_line"]
    assert result["notes"][0].startswith("No weights of AlexNet can be had here, so the network measured was trained")
    assert result["embedded"]


def test_every_figure_of_an_embedded_run_may_be_printed_and_none_shows_photographs(result: dict[str, Any]) -> None:
    names = [figure["name"] for figure in result["figures"]]
    assert names == [
        "filters", "kind-shares", "kinds", "traits", "training", "layers", "deep-filters", "first-maps", "maps",
        "fields", "patches-procedural",
    ]  # fmt: skip
    assert result["key_figure"] == "filters"
    assert all(figure["alt"] and figure["caption"] for figure in result["figures"])


def test_all_sixty_four_first_filters_are_named_before_and_after(result: dict[str, Any]) -> None:
    kinds = result["measured"]["kinds"]
    assert result["measured"]["first_layer_window"] == [64, 3, 11, 11]
    assert sum(row["filters"] for row in kinds) == sum(row["before"] for row in kinds) == 64
    assert sum(row["share_%"] for row in kinds) == pytest.approx(100)


def test_training_moves_the_first_layer_and_the_verdict_follows_the_gain(result: dict[str, Any]) -> None:
    first = result["measured"]["filter_layers"][0]
    assert 0 < first["distance"] < 2
    assert first["spread"] < first["spread_before"]
    gain = first["specific_%"] - first["specific_before_%"]
    assert (f"So {gain:.0f} % of the first layer's filters" in result["finding"]) == (10 <= gain < 50)
    assert ("next to nothing" in result["finding"]) == (gain < 10)


def test_receptive_fields_are_alexnets(result: dict[str, Any]) -> None:
    """By hand: r ← r + (k − 1)·j, j ← j·s; Araujo, Norris, Sim 2019."""
    rows = {row["layer"]: (row["field_px"], row["every_px"]) for row in result["measured"]["answer_layers"]}
    assert rows == {
        "relu1": (11, 4), "pool1": (19, 8), "relu2": (51, 8), "pool2": (67, 16), "relu3": (99, 16), "relu4": (131, 16),
        "relu5": (163, 16),
    }  # fmt: skip


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(root: Path, result: dict[str, Any]) -> None:
    again = look(bench_at(root), TINY).measured
    first = json.loads(json.dumps(result["measured"]))
    for values in (again, first):
        del values["training"]["training_s"]
        for row in values["training"]["rows"]:
            del row["fit_s"]
    assert json.loads(json.dumps(again)) == first
    weights = [starting_encoder("alexnet", seed).get_parameter("features.0.weight") for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_alexnets_first_layer_begins_small() -> None:
    assert float(starting_encoder("alexnet", 0).get_parameter("features.0.weight").detach().std()) == pytest.approx(
        FIRST_STD, rel=1e-4
    )


def test_loaded_weights_are_named_and_compared_with_a_random_draw(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.studies.alexnet_filters_subject._FEW", 10)
    little = replace(TINY, convolutions=2, layers=2)
    seen = look(bench_at(root, backbone="hilum_small", weights="hilum"), little)
    assert seen.subject.words == "with the weights hilum"
    assert seen.measured["training"] is None
    assert 1 < seen.measured["filter_layers"][0]["distance"] < 100
    assert "with random weights" in finding(seen.measured)
    loaded = build_encoder("hilum_small", 1)
    assert np.allclose(seen.layers[0].before, loaded.get_parameter("stem.0.weight").detach().double().numpy())


def test_imagenet_weights_that_cannot_be_had_stop_the_study_with_url_hash_and_mend(root: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"Fetch https://.*alexnet-owt-7be5be79.pth \(SHA-256 begins with 7be5be79\)"
    ):
        look(bench_at(root, weights="imagenet"), TINY)


def test_a_network_without_convolutions_is_refused_at_once(root: Path) -> None:
    with pytest.raises(UsageError, match="Network mlp has no convolution, hence no filters. Name another with --backb"):
        look(bench_at(root, backbone="mlp"), TINY)


def test_layers_of_a_chain_are_counted_and_others_keep_their_names() -> None:
    alexnet = build_encoder("alexnet", 0)
    labels = labels_of(alexnet)
    assert [labels[name] for name in alexnet.layers] == [
        "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3", "conv4", "relu4", "conv5", "relu5",
    ]  # fmt: skip
    assert [labels[name] for name in answering(alexnet, 5, pools=False)] == [f"relu{i}" for i in range(1, 6)]
    small = build_encoder("hilum_small", 0)
    assert labels_of(small)["block1"] == "block1"
    assert all(small.get_parameter(f"{name}.weight").shape[-1] > 1 for name in convolutions(small, 99))


def test_thinning_keeps_the_first_and_the_last() -> None:
    assert thinned("abcdefghij", 4) == ("a", "d", "g", "j")
    assert thinned("abc", 4) == ("a", "b", "c")


def test_a_network_that_costs_more_sees_fewer_images() -> None:
    assert relative_cost("alexnet", 96) == 1
    assert relative_cost("hilum_small", 96) == 1
    assert 0.03 < relative_cost("vgg16", 96) < 0.06


@pytest.mark.parametrize(("gain", "words"), [(60, "So most"), (20, "So 20 %"), (5, "next to nothing")])
def test_the_verdict_follows_from_the_measured_gain(result: dict[str, Any], gain: float, words: str) -> None:
    measured = json.loads(json.dumps(result["measured"]))
    first = measured["filter_layers"][0]
    first["specific_%"] = first["specific_before_%"] + gain
    assert words in finding(measured)
    measured["origin"] = "random"
    assert "Both are random draws" in finding(measured)


@pytest.mark.parametrize(
    ("share", "words"), [(80.0, "But 80 % of their energy is still"), (20.0, "the rest was learned")]
)
def test_filters_that_are_mostly_what_they_began_with_are_called_so(
    result: dict[str, Any], share: float, words: str
) -> None:
    measured = json.loads(json.dumps(result["measured"]))
    measured["filter_layers"][0]["leftover_%"] = share
    assert words in finding(measured)
    measured["origin"] = "loaded"
    assert words not in finding(measured)


def test_leftover_is_the_energy_along_the_first_draw() -> None:
    before = np.array([[[[1.0, 0.0]]], [[[0.0, 2.0]]]])
    after = np.array([[[[3.0, 4.0]]], [[[5.0, 0.0]]]])
    layer = FilterLayer(name="a", label="a", filters=after, before=before, units=(), traits=(), traits_before=())
    assert layer.leftover == pytest.approx(9 / 50)
    assert layer.distance == pytest.approx(np.sqrt((4 + 16 + 25 + 4) / 5))


def test_directions_and_coarseness_are_told_only_of_enough_filters(result: dict[str, Any]) -> None:
    measured = json.loads(json.dumps(result["measured"]))
    measured["edges"] = {"edges": 7, "along_axes": 7}
    measured["median_frequency"] = {"edge": 0.2, "blob": None, "colour": None}
    assert "22.5°" not in finding(measured)
    assert "Colour filters" not in finding(measured)
    measured["edges"]["edges"] = 8
    measured["median_frequency"]["colour"] = 0.1
    assert "Of the 8 edges 7 lie within 22.5°" in finding(measured)
    assert "structure coarser than edges do (medians 0.100 and 0.200 cycles a pixel)" in finding(measured)
    measured["median_frequency"]["colour"] = 0.3
    assert "structure not coarser than edges do" in finding(measured)


def test_a_layer_that_sees_the_whole_image_has_no_number_for_its_field(result: dict[str, Any]) -> None:
    measured = json.loads(json.dumps(result["measured"]))
    assert any(number.name == "receptive field of relu5" for number in main_numbers(measured))
    measured["answer_layers"][-1]["field_px"] = None
    assert not any(number.name.startswith("receptive field") for number in main_numbers(measured))
    assert "depends on" not in finding(measured)


def test_a_given_picture_is_cut_upright_named_and_its_kind_is_real(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, 10:50] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    picture = picture_of(bench_at(tmp_path, image=str(tmp_path / "cat.png")), 32, 3)
    assert picture.pixels[:, 16, 16].tolist() == [200, 100, 50]
    assert picture.words == "the middle square of cat.png at 32 px"
    assert picture.used.kind == "real"
    assert len(picture.used.fingerprint) == 64


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [("L", 90, [90] * 3), ("CMYK", (0, 0, 0, 0), [255] * 3), ("RGBA", (0, 0, 0, 0), [255] * 3), ("1", 1, [255] * 3)],
)
def test_grey_cmyk_transparent_and_two_tone_pictures_are_taken(
    tmp_path: Path, mode: str, colour: Any, seen: list[int]
) -> None:
    file = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
    Image.new(mode, (20, 30), colour).save(file)
    picture = picture_of(bench_at(tmp_path, image=str(file)), 32, 3)
    assert picture.pixels[:, 5, 5].tolist() == seen
    assert "enlarged" in picture.words
    assert picture.shown.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, "is not there, or is no file. Give a JPEG, PNG or the like with --image"),
        (lambda file: file.mkdir(), "is not there, or is no file"),
        (lambda file: file.write_bytes(b"no picture"), "Picture p.png can't be explained: it is no JPEG, PNG"),
        (lambda file: Image.new("RGB", (1, 1)).save(file), "it is 1 × 1 px, too small: .* Give another with --image"),
        (lambda file: Image.new("1", (20_000, 10_000)).save(file), "far more pixels than the 100,000,000 allowed"),
    ],
)
def test_a_picture_that_cannot_be_explained_is_refused_with_the_mend(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "p.png")
    with pytest.raises(DataError, match=message):
        picture_of(bench_at(tmp_path, image=str(tmp_path / "p.png")), 224, 3)


def test_a_truncated_picture_is_refused_before_any_training(tmp_path: Path) -> None:
    noise = procedural_ten(ProceduralConfig(size=64), np.array([0]))[0][0].transpose(1, 2, 0)
    Image.fromarray(noise).save(tmp_path / "p.jpg")
    (tmp_path / "p.jpg").write_bytes((tmp_path / "p.jpg").read_bytes()[:600])
    with pytest.raises(DataError, match=r"Picture p.jpg can't be explained: it is damaged"):
        look(bench_at(tmp_path, image=str(tmp_path / "p.jpg")), TINY)


def test_a_grey_network_takes_the_picture_in_one_channel(tmp_path: Path) -> None:
    picture = picture_of(bench_at(tmp_path), 32, 1)
    assert picture.pixels.shape == (1, 32, 32)
    assert picture.shown.shape == (32, 32, 3)


def test_the_head_takes_maps_of_any_size_and_begins_from_its_seed() -> None:
    heads = [small_head(8, 3, seed) for seed in (0, 0, 1)]
    assert torch.equal(heads[0][4].weight, heads[1][4].weight)
    assert not torch.equal(heads[0][4].weight, heads[2][4].weight)
    assert heads[0](torch.rand(4, 8, 5, 7)).shape == (4, 3)
