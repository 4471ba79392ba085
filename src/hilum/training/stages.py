"""Stages of training: what is trained, how fast and for how long; and the recipe's default stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hilum.errors import ConfigError, UsageError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: the layers from a cut on are trained, what lies before is frozen.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    name: str
    """What the stage is called in metrics and messages."""

    trainable_from: str = "head"
    """First trained layer: ``head``, ``last-block``, ``all``, or a layer's name."""

    lr: float = 1e-4
    """Highest learning rate, > 0."""

    epochs: int = 30
    """Most epochs."""

    patience: int = 5
    """Epochs without a lower loss on the watched films before the stage stops."""

    batch_size: int = 32
    """Most films in a batch; an epoch's batches differ by one film at most."""

    batch_norm: Literal["frozen", "train"] = "frozen"
    """Frozen: batch normalisation of the trained layers keeps its running statistics and uses them."""

    views: int | None = 4
    """Augmented views of each film beside the clean one; epochs take turns. None: a fresh view each epoch, no cache."""

    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """SGD has Nesterov momentum 0.9."""

    weight_decay: float = 0.0
    """L2 penalty (decoupled for ``adamw``), ≥ 0."""

    schedule: Literal["constant", "cosine", "one-cycle", "plateau"] = "constant"
    """Cosine: from ``lr`` to 0 over the stage's steps. One-cycle: first up in a straight line, then cosine (Smith 2018,
    arXiv:1803.09820). Plateau: a fifth each time the watched loss has not fallen for ``plateau_patience`` epochs."""

    plateau_patience: int = 3
    """Epochs without a lower watched loss before the schedule ``plateau`` lowers the rate."""

    def __post_init__(self) -> None:
        where = f"Stage {self.name!r}"
        wrong = {
            "lr": not self.lr > 0,
            "epochs": self.epochs < 1,
            "patience": self.patience < 1,
            "batch_size": self.batch_size < 1,
            "plateau_patience": self.plateau_patience < 1,
            "views": self.views is not None and self.views < 0,
            "weight_decay": self.weight_decay < 0,
        }
        least = {"lr": "above 0", "views": "0 or more, or None", "weight_decay": "0 or more"}
        problems = [
            f"{where}: {field} is {getattr(self, field)}, but must be {least.get(field, '1 or more')}."
            for field, bad in wrong.items()
            if bad
        ]
        if problems:
            raise ConfigError(problems)

    def view(self, epoch: int) -> int:
        """View that an epoch trains on; 0 is the clean film."""
        return epoch if self.views is None else epoch % (self.views + 1)


STARTER: tuple[Stage, ...] = (
    Stage(name="head", trainable_from="head", lr=1e-4, epochs=30),
    Stage(name="last-block", trainable_from="last-block", lr=1e-5, epochs=15),
)
"""Stages of the recipe ``starter``: the head on a frozen encoder, then the last block as well."""


def cut_of(trainable_from: str, layers: Sequence[str], last_block: str) -> int:
    """Number of frozen layers.

    Args:
        trainable_from: a stage's first trained layer.
        layers: the encoder's layers in order.
        last_block: name of the last block's first layer.

    Returns:
        0 (everything is trained) … len(layers) (the head alone).

    Raises:
        UsageError: no such layer; the message lists the nearest.
    """
    named = {"all": 0, "head": len(layers)}
    if trainable_from in named:
        return named[trainable_from]
    layer = last_block if trainable_from == "last-block" else trainable_from
    if layer not in layers:
        known = ["head", "last-block", "all", *layers]
        raise UsageError(
            f"A stage can't train from {trainable_from!r}: no such layer. {nearest(trainable_from, known)}"
        )
    return list(layers).index(layer)
