"""The head: GAP → Linear → ReLU → Dropout → Linear, the shape for which one forward pass answers everything.

While it is trained, pooled features are first standardised by constants (pooled features of a frozen encoder may vary
by a hundredth of their mean, and then no step size suits). The constants fold into the first Linear, so what is
exported has exactly that shape.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from hilum.errors import UsageError
from hilum.models.initialisation import generator_from, initialise
from hilum.randomness import seed_for


class Head(nn.Module):
    """Feature map [n, channels, h, w] → logits [n, findings].

    Args:
        channels: channels of the feature map.
        hidden: units of the hidden layer.
        findings: number of findings.
        dropout: probability that a hidden unit is dropped while training, 0 ≤ p < 1.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int, hidden: int, findings: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, findings)
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Feature map to logits."""
        return self.from_pooled(self.pool(maps))

    def pool(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        """Global average pooling: the features by which drift is measured."""
        return maps.mean(dim=(2, 3))

    def from_pooled(self, pooled: Float[Tensor, "n c"]) -> Float[Tensor, "n k"]:
        """Pooled features to logits: what the first stage trains, on features computed once."""
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1((pooled - self.shift) * self.scale))))
        return logits

    @torch.no_grad()
    def standardise(self, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """Set the constants: pooled features come to mean 0 and spread 1 before the first Linear.

        A feature that hardly varies (below a thousandth of the largest spread) is only centred, not blown up.
        """
        floor = 1e-3 * float(std.max())
        self.shift.copy_(mean)
        self.scale.copy_(torch.where(std > floor, 1 / std.clamp_min(1e-12), torch.ones_like(std)))

    @torch.no_grad()
    def first_layer(self) -> nn.Linear:
        """The first Linear with the constants folded in: it takes pooled features as they are."""
        folded = nn.Linear(self.fc1.in_features, self.fc1.out_features)
        folded.weight.copy_(self.fc1.weight * self.scale)
        folded.bias.copy_(self.fc1.bias - folded.weight @ self.shift)
        return folded


class FlatHead(Head):
    """The head of the classic recipe: Flatten → Linear → ReLU → Dropout → Linear, without average pooling.

    It sees where in the image a feature was, and pays with channels · h · w weights for each hidden unit. It fits one
    image size, and has none of the closed forms of :mod:`hilum.models.explained`.

    Args:
        map_shape: channels, height and width of the feature map.
        hidden: units of the hidden layer.
        findings: number of outputs.
        dropout: probability that a hidden unit is dropped while training, 0 ≤ p < 1.
        max_pool: whether a 2 × 2 max-pooling comes first, as VGG's last one, which our encoders leave out.

    Raises:
        UsageError: nothing is left of the map after max-pooling.
    """

    def __init__(
        self, map_shape: tuple[int, int, int], hidden: int, findings: int, dropout: float, *, max_pool: bool = False
    ) -> None:
        channels, height, width = map_shape
        if max_pool:
            height, width = height // 2, width // 2
        if not height * width:
            raise UsageError(
                f"A feature map of {map_shape[1]} × {map_shape[2]} can't be max-pooled. Give larger images."
            )
        super().__init__(channels * height * width, hidden, findings, dropout)
        self.max_pool = max_pool

    def pool(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Every position of the map as a feature of its own, d = channels · h · w."""
        pooled = max_pool2d(maps, 2) if self.max_pool else maps
        return pooled.flatten(1)


def build_head(channels: int, hidden: int, findings: int, dropout: float, seed: int) -> Head:
    """A head with random weights from the seed's own stream."""
    return started(Head(channels, hidden, findings, dropout), seed)


def started(head: Head, seed: int) -> Head:
    """A head given fresh random weights from the seed's own stream, in place."""
    initialise(head, generator_from(seed_for(seed, "head")))
    return head
