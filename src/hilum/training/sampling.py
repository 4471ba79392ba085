"""How often the films of each class are drawn in an epoch, when not each film once.

``balanced`` draws anew each epoch: as many films in all as there are, every class alike. ``oversampled`` repeats films
of the smaller classes up to the largest one's number; a repetition is a row of its own, behind all films, and shows
another augmented view. Both are functions of the rows, their classes and the epoch's stream: a resume changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hilum.arrays import Indices
from hilum.training.stages import Stage

Sampling = Literal["natural", "balanced", "oversampled"]
"""Natural: each film once an epoch."""


def balanced_order(rows: Indices, classes: Indices, chance: np.random.Generator) -> Indices:
    """As many rows as there are, in random order, with every class alike (give or take one).

    Of a class larger than its share a part is drawn without repetition; one that is smaller is gone through as often
    as needed.

    Args:
        rows: [n] films to fit.
        classes: [n] class of each.
        chance: the epoch's stream.
    """
    present = np.unique(classes)
    quotas = np.full(len(present), len(rows) // len(present))
    quotas[: len(rows) % len(present)] += 1
    drawn = []
    for which, quota in zip(present, quotas.tolist(), strict=True):
        own = rows[classes == which]
        rounds = [chance.permutation(own) for _ in range(-(-quota // len(own)))]
        drawn.append(np.concatenate(rounds)[:quota] if rounds else own[:0])
    order: Indices = chance.permutation(np.concatenate(drawn))
    return order


def oversampled(rows: Indices, classes: Indices, films: int) -> Indices:
    """Rows with those of smaller classes repeated until every class has as many as the largest.

    Args:
        rows: [n] films to fit.
        classes: [n] class of each.
        films: number of all films: repetition r of row i is row i + r · films.

    Returns:
        n or more rows, the originals first.
    """
    counts = {which: int((classes == which).sum()) for which in np.unique(classes).tolist()}
    most = max(counts.values())
    found = [rows]
    for which, count in counts.items():
        own = rows[classes == which]
        found += [own[: most - repeat * count] + repeat * films for repeat in range(1, -(-most // count))]
    repeated: Indices = np.concatenate(found)
    return repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedInputs:
    """Inputs for rows of :func:`oversampled`: each repetition of a film in a view of its own.

    Attributes:
        inputs: gives one view of some films.
        stage: says how many views there are; the repetitions of a film differ as long as there are views enough.
        films: number of all films.
    """

    inputs: Callable[[Tensor, int], Tensor]
    stage: Stage
    films: int

    def __call__(self, rows: Tensor, view: int) -> Tensor:
        """What the trained part is fed with."""
        repeats = rows // self.films
        if not bool(repeats.any()):
            return self.inputs(rows, view)
        parts = {
            repeat: self.inputs(rows[repeats == repeat] % self.films, self.view(view, repeat))
            for repeat in torch.unique(repeats).tolist()
        }
        first = next(iter(parts.values()))
        layout = torch.channels_last if first.ndim == 4 else torch.contiguous_format
        whole = first.new_empty((len(rows), *first.shape[1:])).contiguous(memory_format=layout)
        for repeat, part in parts.items():
            whole[repeats == repeat] = part
        return whole

    def view(self, view: int, repeat: int) -> int:
        """View of a repetition, when the film itself is shown in this one."""
        if self.stage.views is None:
            return view + repeat * self.stage.epochs
        return (view + repeat) % (self.stage.views + 1)
