"""Batches made on the spot: films augmented, and the frozen layers run, each time they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hilum.models.classifier import Classifier
from hilum.training.augmentation import Augmentation, make_views
from hilum.training.bf16 import Precision
from hilum.training.films import Films
from hilum.training.frozen import frozen_outputs
from hilum.training.prefetch import Ahead


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveInputs:
    """The same values as the prefix cache gives, without the cache.

    Attributes:
        classifier: whose layers before the cut are run.
        cut: number of frozen layers; 0 gives normalised films.
        films: all films.
        augmentation: how views beside 0 are made.
        seed: of the views.
        precision: what the frozen layers are computed in.
    """

    classifier: Classifier
    cut: int
    films: Films
    augmentation: Augmentation
    seed: int
    precision: Precision = "fp32"
    _ahead: Ahead = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ahead", Ahead(lambda rows, view: self.films.take(rows)))

    def expect(self, batches: Sequence[Tensor], view: int) -> None:
        """Say which rows will be asked for next; films that are not in memory are then read in time."""
        if self.films.streamed:
            self._ahead.expect(batches, view)

    def close(self) -> None:
        """Stop reading ahead."""
        self._ahead.close()

    def __call__(self, rows: Tensor, view: int) -> Tensor:
        """What the trained part is fed with, for one view of the films of these rows."""
        picked, names = self._ahead(rows, view), self.films.ids(rows)
        views = make_views(picked, names, view, config=self.augmentation, seed=self.seed)
        if self.cut:
            return frozen_outputs(self.classifier, views, [self.cut], self.precision)[0]
        with torch.no_grad():
            images: Tensor = self.classifier.normalise(views)
            return images.contiguous(memory_format=torch.channels_last)
