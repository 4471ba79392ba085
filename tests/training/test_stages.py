"""Stages, where they cut, and what they freeze."""

from types import ModuleType

import pytest
import torch
from torch import nn

from hilum.config import from_mapping, to_mapping
from hilum.errors import ConfigError, UsageError
from hilum.training.stages import STARTER, Stage, cut_of
from hilum.training.trained_part import TrainedPart, trained_names


def test_default_recipe() -> None:
    """Adam 1e-4 on the head for up to 30 epochs, then 1e-5 on the last block for up to 15, batch 32."""
    facts = [(s.trainable_from, s.optimiser, s.lr, s.epochs, s.batch_size) for s in STARTER]
    assert facts == [("head", "adam", 1e-4, 30, 32), ("last-block", "adam", 1e-5, 15, 32)]


def test_stage_goes_through_json() -> None:
    """A stage with and without a number of views is read back equal."""
    for stage in (*STARTER, Stage(name="all", views=None)):
        assert from_mapping(Stage, to_mapping(stage)) == stage


@pytest.mark.parametrize(("where", "cut"), [("all", 0), ("head", 3), ("last-block", 2), ("b", 1)])
def test_cut(where: str, cut: int) -> None:
    assert cut_of(where, ("a", "b", "c"), "c") == cut


def test_last_blocks_are_counted_from_the_end() -> None:
    """The last block alone, one more, and all of them."""
    layers, starts = ("a", "norm", "b", "relu", "c"), ("a", "b", "c")
    cuts = [cut_of(f"last-{count}-blocks", layers, "c", starts) for count in (1, 2, 3)]
    assert cuts == [4, 2, 0]


@pytest.mark.parametrize("count", [0, 4])
def test_more_blocks_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"from 'last-{count}-blocks': the network has 3 blocks. Give last-1-blocks"):
        cut_of(f"last-{count}-blocks", ("a", "b", "c"), "c", ("a", "b", "c"))


def test_unknown_layer_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match="can't train from 'last-blok': no such layer. Did you mean 'last-block'"):
        cut_of("last-blok", ("a", "b"), "b")


def test_all_wrong_fields_at_once() -> None:
    with pytest.raises(ConfigError, match=r"Stage 'x': lr is 0, but must be above 0.\n.*epochs is 0.*\n.*views is -1"):
        Stage(name="x", lr=0, epochs=0, views=-1)


def test_wrong_rates_and_norms_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Stage(name="x", layer_decay=1.5, warmup_share=1.0, clip_norm=0.0)
    assert caught.value.problems == (
        "Stage 'x': layer_decay is 1.5, but must be above 0 and at most 1.",
        "Stage 'x': warmup_share is 1.0, but must be in 0 … 1 (1 excluded).",
        "Stage 'x': clip_norm is 0.0, but must be above 0, or None.",
    )


def test_one_cycle_takes_no_second_rise() -> None:
    with pytest.raises(ConfigError, match=r"warmup_share is 0.1, but the schedule one-cycle has a rise of its own"):
        Stage(name="x", schedule="one-cycle", warmup_share=0.1)


def test_epochs_take_turns_of_views() -> None:
    """Clean, 1, 2, clean, …; without a number every epoch has a view of its own."""
    assert [Stage(name="x", views=2).view(epoch) for epoch in range(5)] == [0, 1, 2, 0, 1]
    assert [Stage(name="x", views=None).view(epoch) for epoch in range(3)] == [0, 1, 2]


def test_frozen_layers_stay_in_evaluation_mode(tiny: ModuleType) -> None:
    """train() turns on what lies behind the cut, and nothing before it; frozen BatchNorm behind it stays off too."""
    model = tiny.classifier()
    part = TrainedPart(model, 6, batch_norm_trains=False)
    part.train()
    on = {name for name, module in model.named_modules() if module.training}
    assert {"encoder.conv3", "head", "head.dropout"} <= on
    assert not on & {"encoder", "encoder.bn3", *(f"encoder.{layer}" for layer in tiny.LAYERS[:6])}
    TrainedPart(model, 6, batch_norm_trains=True).train()
    assert model.encoder.bn3.training
    assert not model.encoder.bn2.training


def test_frozen_layers_get_no_gradient(tiny: ModuleType) -> None:
    """Behind the cut every parameter gets one."""
    model = tiny.classifier()
    part = TrainedPart(model, 6, batch_norm_trains=False)
    part(torch.randn(4, 6, 4, 4)).sum().backward()
    moved = {name for name, value in model.named_parameters() if value.grad is not None}
    buffers = {name for name, _ in model.named_buffers()}
    learned = set(trained_names(model, 6)) - buffers
    assert moved == set(part.trained_parameters()) == learned
    part.release()
    assert all(value.requires_grad for value in model.parameters())


def test_everything_is_trained_from_all(tiny: ModuleType) -> None:
    model = tiny.classifier()
    assert set(trained_names(model, 0)) == set(model.state_dict())
    part = TrainedPart(model, 0, batch_norm_trains=True)
    part.train()
    assert all(module.training for module in model.modules())
    TrainedPart(model, 0, batch_norm_trains=False).train()
    assert {type(module) for module in model.modules() if not module.training} == {nn.BatchNorm2d}
