"""The losses of LeNet-5 in 1998: the penalty of the right class, and the maximum a posteriori criterion.

LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE 86(11), doi:10.1109/5.726791, equations 8 and 9. A network whose
outputs are penalties y ≥ 0 (squared distances) gives −y as logits, so that its answer is the largest logit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hilum.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class MapCriterion:
    """Equation 9: y_D + log(e^−j + Σ_i e^−y_i): cross-entropy with one more class, "rubbish", whose penalty is fixed.

    Classes whose penalty is well above j are left in peace: the rubbish class outweighs them, and what remains is the
    penalty of the right class, which is equation 8.

    Raises:
        ConfigError: j is not above 0.
    """

    j: float
    """Penalty of the rubbish class, above 0; the paper calls it a positive constant and gives no value."""

    def __post_init__(self) -> None:
        if not self.j > 0:
            raise ConfigError([f"MapCriterion.j is {self.j}, but must be above 0."])

    def sums(
        self, logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Sum of the images' losses, and their number."""
        rubbish = logits.new_full((len(logits), 1), -self.j)
        losses = torch.logsumexp(torch.cat([logits, rubbish], dim=1), dim=1) - (logits * targets).sum(1)
        return losses.sum(), targets.sum()


@dataclass(frozen=True, slots=True)
class RightPenalty:
    """Equation 8: the penalty of the right class alone, for outputs whose codes are fixed."""

    def sums(
        self, logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Sum of the images' losses, and their number."""
        return -(logits * targets).sum(), targets.sum()
