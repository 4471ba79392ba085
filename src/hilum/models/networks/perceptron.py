"""A multilayer perceptron: what a network is without convolution, for comparison.

Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors", Nature 323,
doi:10.1038/323533a0.
"""

from jaxtyping import Float
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Pixels → two hidden layers with ReLU → logits, for one fixed image size.

    The hidden layer leaves as a map of one pixel [n, hidden, 1, 1], so that the same head fits on every encoder.

    Args:
        channels: channels of the image.
        size: its height and width in pixels.
        hidden: units of each hidden layer.
        num_classes: outputs.
    """

    def __init__(self, channels: int = 1, size: int = 28, hidden: int = 256, num_classes: int = 10) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(channels * size * size, hidden)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(hidden, hidden)
        self.relu2 = nn.ReLU()
        self.map = nn.Unflatten(1, (hidden, 1, 1))
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Images [n, channels, size, size] to logits [n, classes]."""
        hidden = self.relu2(self.fc2(self.relu1(self.fc1(self.flatten(images)))))
        logits: Tensor = self.output(self.map(hidden).flatten(1))
        return logits
