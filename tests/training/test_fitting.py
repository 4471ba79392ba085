"""Whole networks fitted to images in memory: the same numbers for the same seed, nothing frozen moves."""

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import ConfigError, TrainingError
from hilum.training.fitting import Examples, FitConfig, ImageInputs, fit_network, predict_images
from hilum.training.losses import AuxiliaryLoss, LossConfig, build_loss
from hilum.training.photo_augmentation import PhotoAugmentation


def bars(count: int = 60, channels: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar in one of three places: images and places (synthetic)."""
    chance = np.random.default_rng(seed)
    places = np.arange(count) % 3
    images = chance.integers(0, 100, (count, channels, 12, 12), dtype=np.uint8)
    for image, place in zip(images, places, strict=True):
        image[:, :, 4 * place : 4 * place + 4] += 120
    return images, places.astype(np.int64)


def network(channels: int = 1, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(6 * 36, 3),
        )


def examples(channels: int = 1) -> Examples:
    return Examples.of(bars(60, channels), bars(30, channels, seed=1), classes=3)


def test_it_learns_and_tells_each_epoch() -> None:
    given, net = examples(), network()
    fitted = fit_network(net, given, FitConfig(epochs=4, lr=1e-2, batch_size=16, probe=30), seed=0)
    assert [row["epoch"] for row in fitted.rows] == [1, 2, 3, 4]
    assert fitted.rows[-1]["watch_accuracy"] > 0.9
    assert fitted.rows[-1]["probe_accuracy"] > 0.9
    assert fitted.fit_s == pytest.approx(sum(row["fit_s"] for row in fitted.rows))
    assert not net.training
    logits = predict_images(net, bars(30, seed=1)[0], fitted)
    assert (logits.argmax(1) == bars(30, seed=1)[1]).mean() == pytest.approx(fitted.rows[-1]["watch_accuracy"])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_gives_the_same_weights_whatever_was_drawn_before(channels: int) -> None:
    """Dropout and augmentation are on; another seed gives others."""
    settings = FitConfig(epochs=3, augmentation=PhotoAugmentation(flip=True, shift_pixels=2, rotation_degrees=5))
    nets = []
    for seed in (0, 0, 1):
        torch.rand(seed + 3)
        nets.append(network(channels))
        fit_network(nets[-1], examples(channels), settings, seed=seed)
    first, second, other = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["6.weight"], other["6.weight"])


def test_frozen_modules_keep_weights_and_statistics() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fit_network(net, examples(), FitConfig(epochs=2), seed=0, frozen=["0", "1"])
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name[0] in "01")
    assert not torch.equal(before["6.weight"], after["6.weight"])


def test_the_best_or_the_last_weights_stay() -> None:
    """Labels by lot can only be learnt by heart, so the watched loss rises: what stays is what was asked for."""
    kept, (images, labels), watched = {}, bars(60), bars(30, seed=1)
    given = Examples.of((images, np.random.default_rng(0).permutation(labels)), watched, classes=3)
    for keep in ("best", "last"):
        net = network()
        fitted = fit_network(net, given, FitConfig(epochs=6, lr=0.02, keep=keep), seed=0)
        logits = torch.from_numpy(predict_images(net, watched[0], fitted))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(watched[1]))
        losses = [row["watch_loss"] for row in fitted.rows]
        kept[keep] = float(loss)
        assert kept[keep] == pytest.approx(min(losses) if keep == "best" else losses[-1], rel=1e-4)
    assert kept["best"] < kept["last"]


def test_hooks_see_every_batch_with_its_gradients_and_every_epoch() -> None:
    batches, norms, epochs = [], [], []

    def batch(net: nn.Module, epoch: int, number: int) -> None:
        batches.append((epoch, number))
        norms.append(float(net.get_submodule("6").weight.grad.norm()))

    def epoch(net: nn.Module, row: dict) -> None:
        row["mine"] = len(batches)
        epochs.append(row["epoch"])

    settings = FitConfig(epochs=2, batch_size=20)
    fitted = fit_network(network(), examples(), settings, seed=0, each_batch=batch, each_epoch=epoch)
    assert batches == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert min(norms) > 0
    assert epochs == [1, 2]
    assert [row["mine"] for row in fitted.rows] == [3, 6]


class TwoAnswers(nn.Module):
    """A network that gives an auxiliary answer beside its own while it trains, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body, self.own, self.other = nn.Linear(144, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(images.flatten(1)).relu()
        return (self.own(hidden), self.other(hidden)) if self.training else self.own(hidden)


def test_auxiliary_answers_are_trained_with_their_share_and_scored_without() -> None:
    """One batch: the running loss is the weighted sum, the watched one that of the network's own answer."""
    given, net = examples(), TwoAnswers()
    before, settings = TwoAnswers().train(), FitConfig(epochs=1, batch_size=60)
    main = build_loss(LossConfig(class_weights="none"), np.eye(3))
    fitted = fit_network(net, given, settings, seed=0, loss=AuxiliaryLoss(main=main, share=0.3))
    pixels = torch.from_numpy(given.images / 255).float()
    normal = (pixels - fitted.mean[0]) / fitted.std[0]
    labels = torch.from_numpy(given.labels)
    costs = [nn.functional.cross_entropy(logits, labels[:60]).item() for logits in before(normal[:60])]
    row = fitted.rows[0]
    assert row["loss"] == pytest.approx(costs[0] + 0.3 * costs[1], rel=1e-4)
    watched = nn.functional.cross_entropy(net(normal[60:]), labels[60:]).item()
    assert row["watch_loss"] == pytest.approx(watched, rel=1e-4)
    assert not torch.equal(net.other.weight, before.other.weight)


def test_intensities_are_normalised_with_the_fitted_images_or_as_told() -> None:
    given = examples(3)
    own = fit_network(network(3), given, FitConfig(epochs=1), seed=0)
    pixels = given.images[given.fit] / 255
    assert own.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-5)
    assert own.std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-5)
    told = fit_network(network(3), given, FitConfig(epochs=1, mean=(0.5,) * 3, std=(0.2,) * 3), seed=0)
    assert (told.mean, told.std) == ((0.5,) * 3, (0.2,) * 3)


def test_images_that_were_announced_are_changed_as_those_that_were_not() -> None:
    """So a training that goes on in the middle of an epoch sees what it would have seen."""
    images = torch.from_numpy(bars(60, 3)[0])
    unit = torch.ones(1, 3, 1, 1)
    changes = PhotoAugmentation(flip=True, shift_pixels=2)
    inputs = ImageInputs(images=images, mean=0 * unit, scale=unit, augmentation=changes, seed=0)
    batches = list(torch.randperm(60).split(20))
    alone = [inputs(rows, 3) for rows in batches]
    inputs.expect(batches[1:], 3)
    assert all(torch.equal(inputs(rows, 3), one) for rows, one in zip(batches, alone, strict=True))
    assert not torch.equal(inputs(batches[0], 4), alone[0])


def test_wrong_examples_are_refused_by_name() -> None:
    images, labels = bars()
    rows = np.arange(60)
    with pytest.raises(TrainingError, match=r"must be uint8 \[n, c, h, w\], but are float64 \[60, 1, 12, 12\]"):
        Examples(images=images / 255, labels=labels, fit=rows, watch=rows[:0], classes=3)
    with pytest.raises(TrainingError, match=r"60 images have 59 labels\. Give one an image"):
        Examples(images=images, labels=labels[:59], fit=rows, watch=rows[:0], classes=3)
    with pytest.raises(TrainingError, match=r"There is no image to fit\. Give some"):
        Examples(images=images, labels=labels, fit=rows[:0], watch=rows, classes=3)
    with pytest.raises(TrainingError, match=r"Labels are 0 … 2, but 2 classes are 0 … 1\."):
        Examples(images=images, labels=labels, fit=rows, watch=rows[:0], classes=2)


def test_wrong_settings_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"lr is -1, but must be above 0\.\n.*epochs is 0"):
        fit_network(network(), examples(), FitConfig(lr=-1, epochs=0), seed=0)
