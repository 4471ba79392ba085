"""Cached and live agree for networks of the zoo, early, in the middle and late: features and gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier
from hilum.training.augmentation import Augmentation
from hilum.training.films import Films
from hilum.training.live import LiveInputs
from hilum.training.prefix_cache import PrefixCache
from hilum.training.trained_part import TrainedPart

SIDE = 32
ROWS = torch.tensor([4, 0, 3])
VIEWS = Augmentation(crop=0.2, cutout=0.2)


def network(backbone: str) -> Classifier:
    config = ClassifierConfig(
        backbone=backbone, findings=("a", "b"), size=SIDE, hidden=8, dropout=0.0, mean=(0.5,), std=(0.25,)
    )
    return build_classifier(config, "none", 0)[0].eval()


def films() -> Films:
    tiles = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE), dtype=np.uint8)
    return Films(tiles, tuple(f"film-{i}" for i in range(5)))


def gradients(model: Classifier, inputs: torch.Tensor, cut: int) -> list[torch.Tensor]:
    part = TrainedPart(model, cut, batch_norm_trains=False)
    part(inputs).square().sum().backward()
    found = [value.grad.clone() for value in part.trained_parameters().values()]
    model.zero_grad(set_to_none=True)
    part.release()
    return found


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet20", "densenet121"])
def test_cached_and_live_agree_at_several_cuts(backbone: str, tmp_path: Path) -> None:
    """Bit for bit with an fp32 store; with fp16 features to 2⁻¹¹, and gradients, where a ReLU near zero may
    switch, to 2⁻⁴ in norm."""
    model = network(backbone)
    layers = len(model.encoder.layers)
    last = list(model.encoder.layers).index(model.encoder.last_block)
    cuts = sorted({2, layers // 2, last, layers})
    for store in ("fp32", "fp16"):
        cache = PrefixCache(tmp_path, store=store)
        wanted = {1: np.arange(5)}
        cache.open(model, cuts[-1], films(), wanted, also=cuts[:-1], augmentation=VIEWS, precision="fp32").close()
        for cut in cuts:
            with cache.open(model, cut, films(), wanted, augmentation=VIEWS, precision="fp32") as outputs:
                cached = outputs(ROWS, 1)
            live = LiveInputs(classifier=model, cut=cut, films=films(), augmentation=VIEWS, seed=0)(ROWS, 1)
            if store == "fp32":
                assert torch.equal(cached, live)
            else:
                np.testing.assert_allclose(cached.numpy(), live.numpy(), rtol=2**-11, atol=2**-24)
            if cut < last:
                continue
            for one, other in zip(gradients(model, cached, cut), gradients(model, live, cut), strict=True):
                exact = torch.equal(one, other)
                assert exact or (store == "fp16" and (one - other).norm() <= 2**-4 * other.norm())


def test_a_prefix_in_bf16_is_live_s_in_bf16_and_has_a_store_of_its_own(tmp_path: Path) -> None:
    """Emulated where the processor lacks it; near fp32, and not equal to it."""
    model, wanted = network("resnet20"), {1: np.arange(5)}
    cut = list(model.encoder.layers).index(model.encoder.last_block)
    found = {}
    for precision in ("fp32", "bf16"):
        cache = PrefixCache(tmp_path, store="fp32")
        with cache.open(model, cut, films(), wanted, augmentation=VIEWS, precision=precision) as outputs:
            found[precision] = outputs(ROWS, 1)
        live = LiveInputs(classifier=model, cut=cut, films=films(), augmentation=VIEWS, seed=0, precision=precision)
        assert torch.equal(found[precision], live(ROWS, 1))
    difference = (found["bf16"] - found["fp32"]).abs().max() / found["fp32"].abs().max()
    assert 0 < difference < 0.05
    assert len(list(tmp_path.glob("*/store.json"))) == 2
    assert PrefixCache(tmp_path).kept_in("bf16") == "fp16, computed in bf16"
