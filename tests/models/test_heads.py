"""The head's constants: standardised while it is trained, folded into the first layer when it is exported."""

import torch

from hilum.models.heads import build_head


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
