"""The learning-rate finder: a curve by hand, and a sweep that leaves no trace."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hilum.errors import ConfigError, TrainingError
from hilum.training.lr_finder import RULE, SweepConfig, read_sweep, smooth
from hilum.training.prefix_cache import PrefixCache
from hilum.training.stages import Stage
from hilum.training.transfer import sweep_stage


def test_rates_are_evenly_spaced_on_a_logarithmic_scale() -> None:
    rates = SweepConfig(low=1e-4, high=1e-2, steps=21).rates()
    assert (rates[0], rates[10], rates[-1]) == pytest.approx((1e-4, 1e-3, 1e-2))


def test_all_wrong_values_at_once() -> None:
    with pytest.raises(ConfigError, match=r"low is 0.*\nhigh is -1.*above low \(0\).*\nsteps is 3, but"):
        SweepConfig(low=0, high=-1, steps=3)


def test_smoothing_has_no_lag() -> None:
    """A line stays a line but for its ends; seven steps are averaged."""
    line = list(np.arange(20.0))
    assert smooth(line)[3:-3] == pytest.approx(line[3:-3])
    assert smooth(line)[0] == pytest.approx(np.mean(line[:4]))
    assert smooth([0.0] * 6 + [7.0] + [0.0] * 6)[3] == pytest.approx(1.0)


def test_a_curve_by_hand() -> None:
    """A parabola over log10 of the rate with its lowest point at 0.01 suggests 0.001; steepest where it begins."""
    rates = np.geomspace(1e-5, 1.0, 101)
    means = [9.0, *((np.log10(rates) + 2) ** 2).tolist()]
    found = read_sweep(rates.tolist(), means, "all rates were tried")
    assert found.lowest_at == pytest.approx(0.01)
    assert found.suggestion == pytest.approx(0.001)
    assert found.steepest_at is not None
    assert found.steepest_at < 3e-5
    assert found.reason == ""
    assert "tenth" in RULE


def test_with_few_steps_the_lowest_point_is_where_the_batches_are_lowest() -> None:
    """Twenty rates over six powers of ten, and losses of forty times the lowest behind the turn."""
    rates = np.geomspace(1e-6, 1.0, 20).tolist()
    losses = [1.1] * 8 + [1.05, 1.0, 0.95, 0.9, 0.85, 0.85, 0.85, 9.0, 37.0, 40.0, 40.0, 40.0]
    found = read_sweep(rates, [1.1, *losses], "all rates were tried")
    assert found.averaged == 3
    assert found.lowest_at == pytest.approx(rates[13])
    assert found.smoothed[13] == pytest.approx(0.85)
    assert read_sweep(np.geomspace(1e-6, 1.0, 100).tolist(), [1.0] * 101, "").averaged == 7


def test_a_curve_that_still_falls_says_so() -> None:
    rates = np.geomspace(1e-5, 1.0, 51).tolist()
    found = read_sweep(rates, np.linspace(2, 1, 52).tolist(), "all rates were tried")
    assert found.suggestion is not None
    assert found.reason == "The loss still fell at the highest rate: raise it to see where it turns."


def test_a_curve_that_does_not_fall_gives_no_number() -> None:
    """Scatter alone, a rise from the first step, and too few steps."""
    rates = np.geomspace(1e-5, 1.0, 50).tolist()
    chance = np.random.default_rng(0)
    flat = read_sweep(rates, (1 + 0.1 * chance.normal(size=51)).tolist(), "all rates were tried")
    rising = read_sweep(rates, np.linspace(1, 2, 51).tolist(), "all rates were tried")
    for found in (flat, rising):
        assert found.suggestion is None
        assert "no more than 2 times what batches scatter" in found.reason
    assert (
        read_sweep(rates[:3], [1.0, 2, 3, 4], "it ended").reason == "Only 3 steps were taken: begin with a lower rate."
    )


@pytest.mark.parametrize("cached", [True, False])
def test_a_sweep_finds_where_training_breaks_and_leaves_the_weights(
    tiny: ModuleType, tmp_path: Path, cached: bool
) -> None:
    """On films that can be told apart: small rates do nothing, larger ones help, the largest destroy."""
    model = tiny.classifier()
    before, random = tiny.state(model), torch.get_rng_state()
    stage = Stage(name="block", trainable_from="last-block", batch_size=8, batch_norm="train", views=1)
    cache = PrefixCache(tmp_path) if cached else None
    config = SweepConfig(low=1e-5, high=1e3, steps=60)
    found = sweep_stage(model, tiny.data(), stage, tiny.config(), config, cache=cache, seed=0)
    assert tiny.same(tiny.state(model), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 60
    assert found.ended.startswith(("the smoothed loss was 4 times", "the loss was"))
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 1e-1
    assert not any(module.training for module in model.modules())


def test_every_rate_is_tried_where_none_breaks(tiny: ModuleType) -> None:
    """And the first loss is that of the weights as they are."""
    stage = Stage(name="head", batch_size=8, views=0)
    config = SweepConfig(low=1e-7, high=1e-6, steps=20)
    found = sweep_stage(tiny.classifier(), tiny.data(), stage, tiny.config(), config, cache=None, seed=0)
    assert found.ended == "all rates were tried"
    assert len(found.rates) == 20


def test_a_loss_that_is_not_finite_from_the_start_is_refused(tiny: ModuleType) -> None:
    model = tiny.classifier()
    with torch.no_grad():
        model.head.fc2.bias.fill_(torch.nan)
    stage = Stage(name="head", batch_size=8, views=0)
    with pytest.raises(TrainingError, match="The loss is nan before the first step of the sweep. Check the weights"):
        sweep_stage(model, tiny.data(), stage, tiny.config(), SweepConfig(), cache=None, seed=0)
