"""Recipes: everything about a training but its films, backbone and weights, as one value; one literal table of them."""

from dataclasses import dataclass, field
from typing import Literal

from hilum.errors import UsageError, nearest
from hilum.imaging.preprocessing import Preprocessing
from hilum.models.encoders import Encoder
from hilum.training.augmentation import Augmentation
from hilum.training.stages import STARTER, Stage, stage_cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a classifier is trained."""

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """How a film becomes a tile; the service uses the same value."""
    normalisation: Literal["weights", "zscore"] = "weights"
    """Mean and standard deviation that the network starts with: the weights' own, or those of the fit part's tiles."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How far augmented views stray from the film."""
    stages: tuple[Stage, ...] = STARTER
    """What is trained, in turn."""
    hidden: int = 256
    """Width of the head's hidden layer."""
    dropout: float = 0.5
    """Dropout between the head's layers, 0 … 1."""
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    """Focal has γ = 2 (Lin et al. 2017)."""
    class_weights: Literal["balanced", "none"] = "balanced"
    """Balanced: n / (k · n_class), so that every class weighs alike."""


RECIPES: dict[str, Recipe] = {
    # GAP → 256 → ReLU → Dropout 0.5 → classes; Adam 1e-4 on the head, then 1e-5 on the last block.
    "starter": Recipe(),
    "starter-focal": Recipe(loss="focal"),
    # Other intensities: min/max of each film instead of percentiles, or mean and spread of the fit part's tiles.
    "starter-minmax": Recipe(preprocessing=Preprocessing(intensity="minmax")),
    "starter-zscore": Recipe(normalisation="zscore"),
    # Everything is trained from the first step, with fresh views each epoch: what a network without weights needs.
    "scratch": Recipe(
        stages=(
            Stage(
                name="all",
                trainable_from="all",
                lr=1e-3,
                epochs=30,
                patience=8,
                batch_norm="train",
                views=None,
                schedule="cosine",
            ),
        )
    ),
    # For films by procedure: a small set and a small encoder stand higher learning rates.
    "phantom": Recipe(
        stages=(
            Stage(name="head", trainable_from="head", lr=3e-4, epochs=60, patience=10),
            Stage(
                name="last-block",
                trainable_from="last-block",
                lr=3e-3,
                epochs=20,
                patience=20,
                batch_size=16,
                batch_norm="train",
                schedule="cosine",
            ),
        )
    ),
    # The same from random weights, every layer trained; as many epochs as a demo has time for.
    "phantom-scratch": Recipe(
        stages=(
            Stage(
                name="all",
                trainable_from="all",
                lr=2e-3,
                epochs=12,
                patience=12,
                batch_norm="train",
                views=None,
                schedule="cosine",
            ),
        )
    ),
}
"""Name → recipe."""


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: no such recipe; the message lists the nearest.
    """
    if name not in RECIPES:
        raise UsageError(f"There is no recipe {name!r}. {nearest(name, sorted(RECIPES))}")
    return RECIPES[name]


def shared_cut(recipe: Recipe, encoder: Encoder) -> int:
    """Number of layers that no stage of a recipe trains; members that start alike share them."""
    return min(stage_cut(stage, encoder) for stage in recipe.stages)
