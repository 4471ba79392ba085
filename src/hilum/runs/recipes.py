"""Recipes: everything about a training but its films, backbone and weights, as one value; one literal table of them.

A recipe of one's own is a file (TOML or JSON) that names the recipe it is based on and what differs::

    based_on = "starter"
    label_smoothing = 0.1

    [imbalance]
    strategy = "logit-adjustment"

    [stages.last-block]
    trainable_from = "last-2-blocks"
    layer_decay = 0.4
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from hilum.config import from_mapping, to_mapping
from hilum.errors import ConfigError, UsageError, nearest
from hilum.imaging.preprocessing import Preprocessing
from hilum.models.encoders import Encoder
from hilum.training.augmentation import Augmentation
from hilum.training.imbalance import Imbalance
from hilum.training.precision import Precision
from hilum.training.stages import STARTER, Stage, stage_cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a classifier is trained.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

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
    imbalance: Imbalance = field(default_factory=Imbalance)
    """Answer to classes of unequal size: weights, sampling or another loss."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over the findings, 0 ≤ share < 1."""

    def __post_init__(self) -> None:
        wrong = {
            "hidden": (self.hidden < 1, "1 or more"),
            "dropout": (not 0 <= self.dropout < 1, "in 0 … 1 (1 excluded)"),
            "label_smoothing": (not 0 <= self.label_smoothing < 1, "in 0 … 1 (1 excluded)"),
        }
        problems = [
            f"{name} is {getattr(self, name)}, but must be {least}." for name, (bad, least) in wrong.items() if bad
        ]
        if not self.stages:
            problems.append("stages are missing: a recipe has one at least.")
        if problems:
            raise ConfigError(problems)


RECIPES: dict[str, Recipe] = {
    # GAP → 256 → ReLU → Dropout 0.5 → classes; Adam 1e-4 on the head, then 1e-5 on the last block.
    "starter": Recipe(),
    "starter-focal": Recipe(imbalance=Imbalance(strategy="weighted-focal")),
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
    """A recipe by name, or from a file that ends in ``.toml`` or ``.json``.

    Raises:
        UsageError: no such recipe, the message lists the nearest; or a file that can't be read.
        ConfigError: what is wrong in the file, all of it at once.
    """
    if name.endswith((".toml", ".json")):
        return _from_file(Path(name))
    if name not in RECIPES:
        raise UsageError(f"There is no recipe {name!r}. {nearest(name, sorted(RECIPES))}")
    return RECIPES[name]


def _from_file(path: Path) -> Recipe:
    """A recipe based on another (``based_on``, the starter's when it names none), with what the file says."""
    try:
        text = path.read_text(encoding="utf-8")
        told = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise UsageError(f"Recipe {path} does not exist. Give a file, or one of: {', '.join(RECIPES)}.") from None
    except ValueError as error:
        raise UsageError(f"Recipe {path} is no {path.suffix[1:].upper()} ({error}). Mend it there.") from None
    if not isinstance(told, dict):
        raise UsageError(f"Recipe {path} holds a {type(told).__name__}, but must hold names and values.")
    based_on, problems = told.pop("based_on", "starter"), []
    if based_on not in RECIPES:
        problems.append(f"{path}.based_on is {based_on!r}. {nearest(str(based_on), sorted(RECIPES))}")
    base = to_mapping(RECIPES.get(based_on, Recipe()))
    if isinstance(told.get("stages"), dict):
        told["stages"] = _changed_stages(base["stages"], told["stages"], f"{path}.stages", problems)
    try:
        made = from_mapping(Recipe, _overlaid(base, told), where=str(path))
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return made


def _changed_stages(
    stages: list[dict[str, Any]], changes: Mapping[str, Any], where: str, problems: list[str]
) -> list[dict[str, Any]]:
    """The base's stages, each with what is said under its name."""
    names = [stage["name"] for stage in stages]
    for name, change in changes.items():
        if name not in names:
            problems.append(f"{where}: unknown stage {name!r}. {nearest(name, names)}")
        elif not isinstance(change, Mapping):
            problems.append(f"{where}.{name} is {change!r}, but must hold names and values.")
    given = {name: change for name, change in changes.items() if isinstance(change, Mapping)}
    return [{**stage, **given.get(stage["name"], {})} for stage in stages]


def _overlaid(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base's values with the changes', tables within tables alike; lists are replaced whole."""
    made = dict(base)
    for key, value in changes.items():
        below = made.get(key)
        nested = isinstance(below, Mapping) and isinstance(value, Mapping)
        made[key] = _overlaid(below, value) if nested and isinstance(below, Mapping) else value
    return made


def changed(
    recipe: Recipe,
    *,
    imbalance: str | None = None,
    label_smoothing: float | None = None,
    precision: str | None = None,
) -> Recipe:
    """A recipe with some of its values replaced; None leaves one as it is.

    Raises:
        ConfigError: unknown names or values out of range, all of them at once.
    """
    told, problems = to_mapping(recipe), []
    if imbalance is not None:
        told["imbalance"]["strategy"] = imbalance
    if label_smoothing is not None:
        told["label_smoothing"] = label_smoothing
    if precision is not None and precision not in get_args(Precision):  # said once, not for every stage
        problems.append(f"precision is {precision!r}. {nearest(precision, get_args(Precision))}")
    elif precision is not None:
        told["stages"] = [{**stage, "precision": precision} for stage in told["stages"]]
    try:
        made = from_mapping(Recipe, told, where="recipe")
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return made


def shared_cut(recipe: Recipe, encoder: Encoder) -> int:
    """Number of layers that no stage of a recipe trains; members that start alike share them."""
    return min(stage_cut(stage, encoder) for stage in recipe.stages)
