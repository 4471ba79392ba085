"""The study of CNNs and MLPs: sizes that match, changes that are what they say, and the whole study on a few images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hilum.datasets.digits import read_digits
from hilum.models.networks.lenet import LeNet5, PooledLeNet5
from hilum.models.networks.perceptron import Perceptron
from hilum.studies.bench import Bench, Request
from hilum.studies.cnn_vs_mlp import KINDS, SIDE, Scale, enough, fit, order_of, permuted, shifted
from hilum.studies.cnn_vs_mlp_report import finding
from hilum.studies.digit_images import digits_in
from hilum.studies.running import run_request

TINY = Scale(seeds=2, train=60, sizes=(20,), epochs=1, least_steps=2, test=40, shifted=20, shifts=(0, 3, 6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study on 60 + 40 digits with two seeds."""
    root = tmp_path_factory.mktemp("cnn-vs-mlp")
    run_request(Request(study="cnn-vs-mlp"), root / "out", cache=root / "cache", download=False, scale=TINY)
    return root / "out"


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return values


def test_one_mlp_has_the_cnn_s_parameters_within_two_per_cent() -> None:
    counts = {kind.name: kind.counts()[0] for kind in KINDS}
    assert counts["cnn"] == 61_706
    assert abs(counts["mlp_parameters"] / counts["cnn"] - 1) < 0.02


def test_the_other_mlp_has_the_cnn_s_multiply_accumulates_within_two_per_cent() -> None:
    counts = {kind.name: kind.counts()[1] for kind in KINDS}
    assert counts["cnn"] == 416_520
    assert abs(counts["mlp_macs"] / counts["cnn"] - 1) < 0.02


def test_shifting_moves_whole_pixels_and_lets_black_in() -> None:
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    assert shifted(image, 1, 0)[0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert shifted(image, 0, -2)[0, 0].tolist() == [[3, 0, 0], [6, 0, 0], [9, 0, 0]]
    assert np.array_equal(shifted(image, 0, 0), image)
    assert shifted(image, 3, 0).max() == 0


def test_reordering_keeps_every_pixel_and_is_one_order_a_seed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, SIDE, SIDE), dtype=np.uint8)
    order = order_of(0)
    mixed = permuted(images, order)
    assert np.array_equal(permuted(mixed, np.argsort(order)), images)
    assert np.array_equal(order, order_of(0))
    assert not np.array_equal(order, order_of(1))


def test_reordered_columns_make_an_mlp_deaf_to_reordered_pixels() -> None:
    """For an MLP an order of pixels is a name of its weights: with columns in the same order the answers are equal."""
    order = torch.from_numpy(order_of(0))
    plain, mixed = Perceptron(hidden=8), Perceptron(hidden=8)
    mixed.load_state_dict(plain.state_dict())
    with torch.no_grad():
        mixed.fc1.weight.copy_(plain.fc1.weight[:, order])
    images = torch.rand(4, 1, SIDE, SIDE)
    reordered = images.flatten(1)[:, order].view_as(images)
    assert torch.allclose(plain(images), mixed(reordered), atol=1e-5)
    assert not torch.allclose(plain(images), plain(reordered), atol=1e-2)


def test_maps_move_with_the_image_away_from_the_border() -> None:
    """Convolution commutes with shifts; pooling by two with shifts by two."""
    network = LeNet5(padding=2)
    image = torch.zeros(1, 1, SIDE, SIDE)
    image[..., 8:16, 8:16] = torch.rand(8, 8)
    moved = torch.roll(image, (4, 2), (2, 3))
    with torch.inference_mode():
        maps, moved_maps = (network.s2(network.relu1(network.c1(x))) for x in (image, moved))
    assert torch.allclose(moved_maps[..., 3:-1, 2:-1], torch.roll(maps, (2, 1), (2, 3))[..., 3:-1, 2:-1], atol=1e-6)


def test_averaging_head_hears_the_same_at_every_place() -> None:
    """A pattern on black, moved by multiples of both poolings' 4 px: the average over all places is the same."""
    network = PooledLeNet5(padding=2).eval()
    with torch.no_grad():
        for layer in (network.c1, network.c3, network.c5):
            layer.bias.zero_()
    image = torch.zeros(1, 1, 64, 64)
    image[..., 24:32, 24:32] = torch.rand(8, 8)
    with torch.inference_mode():
        assert torch.allclose(network(image), network(torch.roll(image, (4, 8), (2, 3))), atol=1e-6)


def test_images_that_are_enough_by_hand() -> None:
    """Halfway between 80 and 90 per cent lies halfway between 100 and 10,000 on a logarithmic axis."""
    cnn = {"by_size": {"100": [80.0], "10000": [90.0]}}
    assert enough(cnn, {"plain": [85.0]}) == pytest.approx(1000)
    assert enough(cnn, {"plain": [95.0]}) is None
    assert enough(cnn, {"plain": [70.0]}) is None


def test_report_says_first_that_the_digits_are_embedded(folder: Path, result: dict[str, Any]) -> None:
    assert result["first_line"].startswith("EMBEDDED data: scikit-learn's digits")
    assert "MLP of equal MACs (416,170 parameters, 415,440 MACs, random weights)" in result["first_line"]
    assert {"errors", "shifts", "sizes", "weights", "maps", "patches"} <= {f["name"] for f in result["figures"]}
    assert result["finding"] in (folder / "report.html").read_text().replace("&#39;", "'")


def test_measured_holds_every_seed_under_every_condition(result: dict[str, Any]) -> None:
    measured = result["measured"]
    for name, values in measured["kinds"].items():
        assert list(values["by_shift"]) == ["0", "3", "6"]
        assert list(values["by_size"]) == (["60"] if name == "cnn_pooled" else ["20", "60"])
        assert values["by_size"]["60"] == values["plain"]
        assert {len(values[key]) for key in ("plain", "epoch_s", "image_ms")} == {2}
        assert len(values["permuted"]) == (0 if name == "cnn_pooled" else 2)
    first = measured["comparisons"]["against mlp_macs"]
    cnn, mlp = (measured["kinds"][name]["plain"] for name in ("cnn", "mlp_macs"))
    assert first["mean"] == pytest.approx(np.mean(cnn) - np.mean(mlp))
    assert first["low"] <= first["mean"] <= first["high"]


def test_a_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    digits = digits_in(read_digits().subset(60, 20, seed=0), SIDE)
    found = []
    for i in range(2):
        bench = Bench(request=Request(study="cnn-vs-mlp"), parts=tmp_path / str(i), cache=tmp_path)
        values, network = fit(bench, TINY, KINDS[0], digits, 1, size=20, permute=True)
        found.append(({k: v for k, v in values.items() if not k.endswith(("_s", "_ms"))}, network.state_dict()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1].values(), found[1][1].values(), strict=True))


def measured_like(cnn: int, permuted_mlp: int, pooled_at_last: float) -> dict[str, Any]:
    """Measurements made up to see what is said of them; the integers are signs of differences."""

    def difference(sign: int) -> dict[str, Any]:
        return {"words": "", "mean": 2.0 * sign, "low": 2.0 * sign - 0.5, "high": 2.0 * sign + 0.5, "sign": sign}

    kinds = {}
    for kind in KINDS:
        last = pooled_at_last if kind.name == "cnn_pooled" else 40.0
        kinds[kind.name] = {
            "label": kind.label, "parameters": 100, "macs": 100, "plain": [97.0, 98.0], "epoch_s": [1.0, 1.0],
            "by_shift": {"0": [97.0], "3": [80.0], "6": [last]},
        }  # fmt: skip
    comparisons = {f"against {name}": difference(cnn) for name in kinds if name != "cnn"}
    comparisons |= {f"permuted {name}": difference(1 if name == "cnn" else permuted_mlp) for name in list(kinds)[:3]}
    return {
        "train": 1000, "seeds": 2, "kinds": kinds, "comparisons": comparisons,
        "as_good_at": {"mlp_parameters": 250.0, "mlp_macs": None},
    }  # fmt: skip


def test_finding_says_what_the_numbers_say() -> None:
    better = finding(measured_like(1, 0, 90.0), "MNIST")
    assert "The CNN is better than the MLP of equal parameters by 2.00 points (1.50–2.50)" in better
    assert "the order of pixels helps the CNN alone" in better
    assert (
        "at 6 px the CNN is 0.0 points from the MLP of equal MACs, and the averaging head +50.0 from the CNN" in better
    )
    assert "changes by 0.00 points (−0.50 to +0.50), which the seeds don't tell from 0" in better
    assert "With about 250 training images, 4.0 times fewer, the CNN equals what the MLP of equal parameters" in better
    assert "No training size was found at which the CNN equals what the MLP of equal MACs" in better
    worse = finding(measured_like(-1, 1, 41.0), "MNIST")
    assert "The CNN is worse than the MLP of equal parameters by 2.00 points (1.50–2.50)" in worse
    assert "was not shown here" in worse
    equal = finding(measured_like(0, 0, 41.0), "MNIST")
    assert "which 2 seeds don't tell from 0" in equal


def test_a_change_that_the_seeds_dont_tell_from_0_has_one_sign() -> None:
    measured = measured_like(1, 0, 90.0)
    measured["comparisons"]["permuted mlp_macs"] |= {"mean": -0.65, "low": -1.5, "high": 0.2}
    said = finding(measured, "MNIST")
    assert "the MLP of equal MACs changes by +0.65 points (−0.20 to +1.50), which the seeds don't tell from 0" in said
    measured["comparisons"]["permuted mlp_macs"] |= {"low": None, "high": None}
    assert "the MLP of equal MACs changes by +0.65 points, which the seeds" in finding(measured, "MNIST")


@pytest.mark.parametrize("name", ["cnn-vs-mlp", "cnn-vs-mlp@embedded"])
def test_the_kept_finding_is_that_of_the_kept_numbers(name: str) -> None:
    kept = json.loads((Path(__file__).parents[2] / "docs" / "topics" / "measured" / f"{name}.json").read_text())
    title = kept["finding"].removeprefix("On ").split(", with ")[0]
    assert kept["finding"] == finding(kept["measured"], title)
