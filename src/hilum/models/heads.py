"""The head: GAP → Linear → ReLU → Dropout → Linear, the shape for which one forward pass answers everything."""

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

    def __init__(self, channels: int, hidden: int, findings: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, findings)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Feature map to logits."""
        return self.from_pooled(self.pool(maps))

    def pool(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        """Global average pooling: the features by which drift is measured."""
        return maps.mean(dim=(2, 3))

    def from_pooled(self, pooled: Float[Tensor, "n c"]) -> Float[Tensor, "n k"]:
        """Pooled features to logits: what the first stage trains, on features computed once."""
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1(pooled))))
        return logits


def build_head(channels: int, hidden: int, findings: int, dropout: float, seed: int) -> Head:
    """A head with random weights from the seed's own stream."""
    head = Head(channels, hidden, findings, dropout)
    initialise(head, generator_from(seed_for(seed, "head")))
    return head
