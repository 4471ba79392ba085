"""Members behind one prefix answer side by side as they do one after another."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hilum.models.classifier import Classifier
from hilum.models.explained import OUTPUTS, Explained
from hilum.models.side_by_side import plan_of, run_plan

Make = Callable[..., Classifier]


class Grown(nn.Module):
    """As DenseNet grows: what is new stands behind what was there, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        self.new, self.newer = nn.Conv2d(6, 4, 1, bias=False), nn.Conv2d(10, 2, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        new = self.new(self.relu(self.norm(maps)))
        return torch.cat([maps, new, self.newer(torch.cat([maps, new], 1))], 1)


class Gated(nn.Module):
    """As EfficientNet gates channels, with a way around, in groups and with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1), nn.Sigmoid())
        self.last = nn.Sequential(nn.Conv2d(6, 4, 3, stride=2), nn.Dropout(0.5), nn.SiLU(inplace=True), nn.MaxPool2d(2))

    def forward(self, maps: Tensor) -> Tensor:
        wide = self.wide(maps)
        return self.last(maps + wide * self.gate(wide))


@pytest.mark.parametrize("kind", [Grown, Gated])
@pytest.mark.parametrize("batch", [1, 3])
def test_members_keep_their_own_channels(kind: type[nn.Module], batch: int) -> None:
    torch.manual_seed(0)
    members = [nn.ModuleList([kind()]).eval() for _ in range(3)]
    for layer in (one for member in members for one in member.modules() if isinstance(one, nn.BatchNorm2d)):
        nn.init.uniform_(layer.running_mean, -1, 1)
        nn.init.uniform_(layer.running_var, 0.5, 2)
    maps = torch.randn(batch, 6, 9, 9)
    before = maps.clone()
    plan = plan_of(list(members[0]))
    assert plan is not None
    with torch.inference_mode():
        together = run_plan(plan, members, maps)
        apart = torch.stack([member[0](maps.clone()) for member in members])
    torch.testing.assert_close(together, apart)
    assert torch.equal(maps, before)


def test_a_whole_answer_is_the_same(make_classifier: Make, films: Tensor) -> None:
    """A network with a way around each block, cut before its last one; weights are looked up when it answers."""
    first = make_classifier("resnet18", hidden=8)
    members = [first, make_classifier("resnet18", hidden=8), make_classifier("resnet18", hidden=8)]
    cut = first.encoder.last_block
    explained = Explained(members, cut=cut)
    assert explained.plan is not None
    with torch.no_grad():
        for i, member in enumerate(members):
            for part in member.encoder.modules_from(cut):
                for weights in part.parameters():
                    weights.mul_(1 + 0.1 * i)
    with torch.inference_mode():
        together, apart = explained(films), explained.together(explained.apart(films))
    assert together.member_std.max() > 0
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(together, name), getattr(apart, name), rtol=1e-5, atol=1e-6)


class Looking(nn.Module):
    """Looks at its input, which no trace can."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps if maps.sum() > 0 else -maps


class Mixing(nn.Module):
    """Joins along the batch."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps, maps])


@pytest.mark.parametrize(
    "layer",
    [
        Looking(), Mixing(), nn.Linear(6, 6), nn.GroupNorm(2, 6), nn.Softmax(1),
        nn.BatchNorm2d(6, track_running_stats=False),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"), nn.MaxPool2d(2, return_indices=True),
    ],
)  # fmt: skip
def test_what_mixes_channels_or_can_not_be_followed_is_left_apart(layer: nn.Module) -> None:
    assert plan_of([nn.ReLU(), layer]) is None


def test_members_whose_heads_differ_answer_one_after_the_other(make_classifier: Make, films: Tensor) -> None:
    members = [make_classifier(dropout=0.5), make_classifier(dropout=0.2)]
    explained = Explained(members, cut="block5")
    with torch.inference_mode():
        torch.testing.assert_close(explained(films).logits, torch.stack([m(films) for m in members]).mean(0))
