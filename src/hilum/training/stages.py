"""Stages of training: what is trained, how fast and for how long; and the recipe's default stages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hilum.errors import ConfigError, UsageError, nearest
from hilum.models.encoders import Encoder
from hilum.training.blocks import block_starts
from hilum.training.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: the layers from a cut on are trained, what lies before is frozen.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    name: str
    """What the stage is called in metrics and messages."""

    trainable_from: str = "head"
    """First trained layer: ``head``, ``last-block``, ``last-2-blocks`` (any number; what a block is says
    :mod:`hilum.training.blocks`), ``all``, or a layer's name."""

    lr: float = 1e-4
    """Highest learning rate, > 0; with ``layer_decay`` that of the head."""

    layer_decay: float = 1.0
    """Share of the rate above it that each block is trained with, from the head down, in 0 … 1 (0 excluded): the head
    at ``lr``, the last block at ``lr`` · share, the one before at ``lr`` · share² (Howard, Ruder 2018,
    arXiv:1801.06146, divide by 2.6). 1: all alike."""

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

    warmup_share: float = 0.0
    """Share of the stage's steps in which the rate first rises in a straight line, 0 ≤ share < 1; a cosine begins after
    them (Goyal et al. 2017, arXiv:1706.02677). ``one-cycle`` has a rise of its own and takes none."""

    clip_norm: float | None = None
    """Largest norm of all gradients together, > 0; longer ones are shortened to it (Pascanu et al. 2013,
    arXiv:1211.5063). None: as they are."""

    precision: Precision = "fp32"
    """What products of the trained part are computed in; weights, normalisation, the loss and the optimiser stay in
    fp32. ``bf16`` works anywhere, and is slow where a processor emulates it; ``fp16`` needs a GPU, and scales the loss
    (Micikevicius et al. 2018, arXiv:1710.03740)."""

    def __post_init__(self) -> None:
        where = f"Stage {self.name!r}"
        wrong = {
            "lr": not self.lr > 0,
            "layer_decay": not 0 < self.layer_decay <= 1,
            "epochs": self.epochs < 1,
            "patience": self.patience < 1,
            "batch_size": self.batch_size < 1,
            "plateau_patience": self.plateau_patience < 1,
            "views": self.views is not None and self.views < 0,
            "weight_decay": self.weight_decay < 0,
            "warmup_share": not 0 <= self.warmup_share < 1,
            "clip_norm": self.clip_norm is not None and not self.clip_norm > 0,
        }
        least = {
            "lr": "above 0",
            "layer_decay": "above 0 and at most 1",
            "views": "0 or more, or None",
            "weight_decay": "0 or more",
            "warmup_share": "in 0 … 1 (1 excluded)",
            "clip_norm": "above 0, or None",
        }
        problems = [
            f"{where}: {field} is {getattr(self, field)}, but must be {least.get(field, '1 or more')}."
            for field, bad in wrong.items()
            if bad
        ]
        if self.warmup_share and self.schedule == "one-cycle":
            problems.append(
                f"{where}: warmup_share is {self.warmup_share}, but the schedule one-cycle has a rise of its own. "
                "Set it to 0, or choose the schedule cosine."
            )
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


_LAST_BLOCKS = re.compile(r"last-(\d+)-blocks")


def stage_cut(stage: Stage, encoder: Encoder) -> int:
    """Number of an encoder's layers that a stage leaves frozen; see :func:`cut_of`."""
    return cut_of(stage.trainable_from, encoder.layers, encoder.last_block, block_starts(encoder))


def cut_of(trainable_from: str, layers: Sequence[str], last_block: str, blocks: Sequence[str] = ()) -> int:
    """Number of frozen layers.

    Args:
        trainable_from: a stage's first trained layer.
        layers: the encoder's layers in order.
        last_block: name of the last block's first layer.
        blocks: name of each block's first layer, in order, for ``last-2-blocks`` and the like.

    Returns:
        0 (everything is trained) … len(layers) (the head alone).

    Raises:
        UsageError: no such layer, or more blocks than there are; the message lists the nearest.
    """
    named = {"all": 0, "head": len(layers)}
    if trainable_from in named:
        return named[trainable_from]
    layer = last_block if trainable_from == "last-block" else trainable_from
    last = _LAST_BLOCKS.fullmatch(trainable_from)
    if last and blocks:
        if not 1 <= int(last[1]) <= len(blocks):
            raise UsageError(
                f"A stage can't train from {trainable_from!r}: the network has {len(blocks)} blocks. "
                f"Give last-1-blocks … last-{len(blocks)}-blocks, head or all."
            )
        layer = blocks[-int(last[1])]
    if layer not in layers:
        known = ["head", "last-block", "last-2-blocks", "all", *layers]
        raise UsageError(
            f"A stage can't train from {trainable_from!r}: no such layer. {nearest(trainable_from, known)}"
        )
    return list(layers).index(layer)
