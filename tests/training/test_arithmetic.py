"""MACs of a training: counted by hand on a small network, and against the published counts of whole ones."""

import pytest

from hilum.errors import UsageError
from hilum.models.heads import build_head
from hilum.training.arithmetic import PartMacs, encoder_macs, head_macs, part_macs


def test_a_training_costs_the_frozen_layers_once_a_view_and_three_passes_of_the_others() -> None:
    assert PartMacs(frozen=100, trained=10).training(passes=7, frozen_runs=2) == 2 * 100 + 3 * 10 * 7


def test_the_layers_of_an_encoder_add_up_to_the_published_network_less_its_classifier() -> None:
    assert sum(encoder_macs("mobilenet_v2", 224)) == 300_774_272 - 1280 * 1000
    assert sum(encoder_macs("hilum_small", 224)) == 130_057_952 - 176 * 10


def test_the_cut_divides_the_encoder_and_the_head_is_always_trained() -> None:
    head = build_head(176, 256, 5, 0.5, seed=0)
    layers = encoder_macs("hilum_small", 64)
    assert head_macs(head) == 176 * 256 + 256 * 5
    parts = part_macs("hilum_small", 64, 5, head)
    assert parts == PartMacs(frozen=sum(layers[:5]), trained=layers[5] + head_macs(head))
    assert part_macs("hilum_small", 64, 0, head).frozen == 0


def test_a_size_that_a_network_cannot_take_is_named() -> None:
    with pytest.raises(UsageError, match=r"alexnet can't take images of 16 × 16 .* Try 224\."):
        encoder_macs("alexnet", 16)
