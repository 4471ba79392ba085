"""The head's constants: standardised while it is trained, folded into the first layer when it is exported."""

import pytest
import torch

from hilum.errors import UsageError
from hilum.models.heads import FlatHead, build_head, started


def test_standardised_features_have_mean_zero_and_spread_one() -> None:
    pooled = 5 + 0.01 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    head = build_head(8, 16, 3, 0.0, seed=0)
    head.standardise(pooled.mean(0), pooled.std(0))
    seen = (pooled - head.shift) * head.scale
    assert seen.mean(0).abs().max() < 1e-2
    assert (seen.std(0) - 1).abs().max() < 1e-3


def test_a_feature_that_never_varies_is_not_blown_up() -> None:
    head = build_head(2, 4, 2, 0.0, seed=0)
    head.standardise(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert head.scale.tolist() == [1.0, 1.0]


def test_the_folded_first_layer_gives_the_same_logits() -> None:
    generator = torch.Generator().manual_seed(1)
    pooled = 3 + torch.randn(5, 8, generator=generator)
    head = build_head(8, 16, 3, 0.5, seed=0).eval()
    head.standardise(torch.full((8,), 3.0), torch.linspace(0.1, 2, 8))
    folded = head.fc2(head.relu(head.first_layer()(pooled)))
    torch.testing.assert_close(folded, head.from_pooled(pooled), atol=1e-5, rtol=1e-5)


def test_the_constants_are_saved_with_the_weights() -> None:
    assert {"shift", "scale"} <= set(build_head(8, 16, 3, 0.5, seed=0).state_dict())


def test_the_flat_head_sees_every_place_after_a_max_pooling() -> None:
    head = started(FlatHead((2, 4, 4), 8, 3, 0.0, max_pool=True), seed=0)
    maps = torch.arange(32.0).view(1, 2, 4, 4)
    assert head.pool(maps).tolist() == [[5.0, 7.0, 13.0, 15.0, 21.0, 23.0, 29.0, 31.0]]
    assert head(maps).shape == (1, 3)
    assert FlatHead((2, 4, 4), 8, 3, 0.0).fc1.in_features == 32


def test_nothing_to_flatten_is_refused() -> None:
    with pytest.raises(UsageError, match=r"A feature map of 1 × 1 can't be max-pooled\. Give larger images\."):
        FlatHead((2, 1, 1), 8, 3, 0.0, max_pool=True)
