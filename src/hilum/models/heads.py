"""The head: GAP → Linear → ReLU → Dropout → Linear, the shape for which one forward pass answers everything.

While it is trained, pooled features are first standardised by constants (pooled features of a frozen encoder may vary
by a hundredth of their mean, and then no step size suits). The constants fold into the first Linear, so what is
exported has exactly that shape.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

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


def build_head(channels: int, hidden: int, findings: int, dropout: float, seed: int) -> Head:
    """A head with random weights from the seed's own stream."""
    head = Head(channels, hidden, findings, dropout)
    initialise(head, generator_from(seed_for(seed, "head")))
    return head
