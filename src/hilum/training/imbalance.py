"""Answers to classes of unequal size, as one value: what films weigh, how often they are drawn, how logits are moved.

All of them are fitted by the same loop, and one command compares them (``hilum compare-imbalance``). None is best
everywhere: what each does to sensitivity and to calibration is to be measured.
"""

from dataclasses import dataclass
from typing import Literal

from hilum.errors import ConfigError
from hilum.training.losses import LossConfig
from hilum.training.sampling import Sampling

Strategy = Literal[
    "none",
    "class-weights",
    "effective-number",
    "focal",
    "weighted-focal",
    "balanced-sampler",
    "oversampling",
    "logit-adjustment",
]
"""Names of the answers."""

STRATEGIES: dict[Strategy, str] = {
    "none": "cross-entropy on films as they come",
    "class-weights": "cross-entropy; a film weighs n / (k · n_class), so each class weighs the same in all",
    "effective-number": "cross-entropy; a class weighs (1 − β) / (1 − β^n_class) a film (Cui et al. 2019, "
    "doi:10.1109/CVPR.2019.00949)",
    "focal": "focal loss: easy films count less (Lin et al. 2017, doi:10.1109/ICCV.2017.324)",
    "weighted-focal": "focal loss with class weights",
    "balanced-sampler": "each epoch draws as many films of every class: of the large ones others each time, of the "
    "small ones the same several times",
    "oversampling": "films of the smaller classes are repeated up to the size of the largest, each time in another "
    "augmented view",
    "logit-adjustment": "cross-entropy on logits + τ · log(share of the class) (Menon et al. 2021, arXiv:2007.07314)",
}
"""Name → what it does, in one clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imbalance:
    """Which answer to classes of unequal size, with its numbers.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    strategy: Strategy = "class-weights"
    """Which answer; :data:`STRATEGIES` says what each does."""

    gamma: float = 2.0
    """Focusing exponent of the focal losses, ≥ 0."""

    beta: float = 0.999
    """Of ``effective-number``, 0 ≤ β < 1: 0 gives every class the same weight a film, towards 1 n / n_class."""

    tau: float = 1.0
    """Of ``logit-adjustment``, ≥ 0: 1 aims at the mean of the classes' errors, 0 is plain cross-entropy."""

    def __post_init__(self) -> None:
        wrong = {
            "gamma": (self.gamma < 0, "0 or more"),
            "beta": (not 0 <= self.beta < 1, "in 0 … 1 (1 excluded)"),
            "tau": (self.tau < 0, "0 or more"),
        }
        problems = [
            f"Imbalance.{name} is {getattr(self, name)}, but must be {least}."
            for name, (bad, least) in wrong.items()
            if bad
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def sampling(self) -> Sampling:
        """How films are drawn."""
        drawn: dict[Strategy, Sampling] = {"balanced-sampler": "balanced", "oversampling": "oversampled"}
        return drawn.get(self.strategy, "natural")

    def loss(self, label_smoothing: float = 0.0) -> LossConfig:
        """The loss on the films that are drawn."""
        weights = {"class-weights": "balanced", "weighted-focal": "balanced", "effective-number": "effective"}
        return LossConfig(
            kind="focal" if self.strategy in ("focal", "weighted-focal") else "cross-entropy",
            gamma=self.gamma,
            label_smoothing=label_smoothing,
            class_weights=weights.get(self.strategy, "none"),  # type: ignore[arg-type]
            beta=self.beta,
            logit_adjustment=self.tau if self.strategy == "logit-adjustment" else 0.0,
        )

    def text(self) -> str:
        """The answer with the number that belongs to it, such as ``focal (γ = 2)``."""
        number = {
            "focal": f" (γ = {self.gamma:g})",
            "weighted-focal": f" (γ = {self.gamma:g})",
            "effective-number": f" (β = {self.beta:g})",
            "logit-adjustment": f" (τ = {self.tau:g})",
        }
        return self.strategy + number.get(self.strategy, "")
