"""Batches made on the spot: films augmented, and the frozen layers run, each time they are asked for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hilum.models.classifier import Classifier
from hilum.training.augmentation import Augmentation, make_views
from hilum.training.films import Films
from hilum.training.frozen import frozen_outputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveInputs:
    """The same values as the prefix cache gives, without the cache.

    Attributes:
        classifier: whose layers before the cut are run.
        cut: number of frozen layers; 0 gives normalised films.
        films: all films.
        augmentation: how views beside 0 are made.
        seed: of the views.
    """

    classifier: Classifier
    cut: int
    films: Films
    augmentation: Augmentation
    seed: int

    def __call__(self, rows: Tensor, view: int) -> Tensor:
        """What the trained part is fed with, for one view of the films of these rows."""
        picked, names = self.films.take(rows), self.films.ids(rows)
        views = make_views(picked, names, view, config=self.augmentation, seed=self.seed)
        if self.cut:
            return frozen_outputs(self.classifier, views, [self.cut])[0]
        with torch.no_grad():
            images: Tensor = self.classifier.normalise(views)
            return images.contiguous(memory_format=torch.channels_last)
