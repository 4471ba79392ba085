"""LeNet-5 in its modern form: full connections, max pooling, ReLU and a linear output; 61,706 parameters.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", Proc. IEEE 86(11),
doi:10.1109/5.726791, figure 2. The original has a connection table in C3, trainable subsampling, tanh and RBF outputs.
"""

from jaxtyping import Float
from torch import Tensor, nn


class LeNet5(nn.Module):
    """Two convolutions with pooling, then three fully connected layers (C5 is one of them for 32 × 32 pixels).

    Args:
        num_classes: outputs; the paper's ten digits.
        padding: zeros around the image; 2 for images of 28 × 28 pixels.
    """

    def __init__(self, num_classes: int = 10, padding: int = 0) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5, padding=padding)
        self.relu1 = nn.ReLU()
        self.s2 = nn.MaxPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.relu3 = nn.ReLU()
        self.s4 = nn.MaxPool2d(2)
        self.c5 = nn.Linear(16 * 5 * 5, 120)
        self.relu5 = nn.ReLU()
        self.f6 = nn.Linear(120, 84)
        self.relu6 = nn.ReLU()
        self.output = nn.Linear(84, num_classes)

    def forward(self, images: Float[Tensor, "n 1 32 32"]) -> Float[Tensor, "n classes"]:
        """Images [n, 1, 32, 32] to logits [n, classes]."""
        if self.training:
            # Pooling first leaves ReLU a quarter of the numbers. The largest of max(0, x) is max(0, the largest x), and
            # the gradient goes the same way: the same bits, sooner.
            maps = self.relu3(self.s4(self.c3(self.relu1(self.s2(self.c1(images))))))
        else:
            maps = self.s4(self.relu3(self.c3(self.s2(self.relu1(self.c1(images))))))
        hidden = self.relu6(self.f6(self.relu5(self.c5(maps.flatten(1)))))
        logits: Tensor = self.output(hidden)
        return logits


class PooledLeNet5(nn.Module):
    """LeNet-5 with C5 left a convolution at every place, its maps averaged, and no F6: the head knows no places.

    What the paper calls a space displacement network (section VII), with the average of Lin et al. 2014,
    arXiv:1312.4400, over its answers. C5 is padded, so that it has as many places as S4.

    Args:
        num_classes: outputs.
        padding: zeros around the image; 2 for images of 28 × 28 pixels.
    """

    def __init__(self, num_classes: int = 10, padding: int = 0) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5, padding=padding)
        self.relu1 = nn.ReLU()
        self.s2 = nn.MaxPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.relu3 = nn.ReLU()
        self.s4 = nn.MaxPool2d(2)
        self.c5 = nn.Conv2d(16, 120, 5, padding=2)
        self.relu5 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(120, num_classes)

    def forward(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n classes"]:
        """Images [n, 1, h, w] of any size from 16 pixels on to logits [n, classes]."""
        maps = self.s4(self.relu3(self.c3(self.s2(self.relu1(self.c1(images))))))
        logits: Tensor = self.output(self.pool(self.relu5(self.c5(maps))).flatten(1))
        return logits
