"""What the verbs that train share: their options, and the configuration that these make."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from hilum.datasets.manifest import Manifest
    from hilum.runs.train import TrainConfig

BackboneOption = Annotated[str, typer.Option(help="Network of the zoo (hilum models list).")]
WeightsOption = Annotated[str, typer.Option(help="imagenet, hilum, none, or a .safetensors file.")]
RecipeOption = Annotated[str, typer.Option(help="Name of a recipe, or a .toml or .json file that changes one.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of all chance.")]
CacheOption = Annotated[Path | None, typer.Option(help="Folder shared between runs.", show_default=".cache beside")]
ResamplesOption = Annotated[int, typer.Option(min=100, help="Of every interval by patient.")]
ImbalanceOption = Annotated[
    str | None,
    typer.Option(
        help="Answer to unequal classes: none, class-weights, effective-number, focal, weighted-focal, "
        "balanced-sampler, oversampling, logit-adjustment.",
        show_default="the recipe's",
    ),
]
SmoothingOption = Annotated[
    float | None,
    typer.Option(help="Share of the target spread over all findings, 0 to 1.", show_default="the recipe's"),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(help="Of products while training: fp32, bf16 or fp16 (GPU).", show_default="the recipe's"),
]
FoldsOption = Annotated[
    int | None,
    typer.Option(
        help="Members, each watching another fold; 1 is the quick form.", show_default="as many as the split has"
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where networks are computed; auto takes a GPU where there is one."),
]
RuleOption = Annotated[
    Literal["sensitivity-floor", "youden", "cost"],
    typer.Option(help="How thresholds are chosen on validation films, for all findings but normal (Youden's)."),
]
FloorOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Lowest sensitivity there, such as 0.9, or of one finding, such as covid-19=0.98; repeatable.",
        show_default="0.95",
    ),
]
CostOption = Annotated[
    float | None,
    typer.Option(help="For cost: how many false alarms a missed finding weighs.", show_default="10"),
]
WatchOption = Annotated[
    list[str] | None, typer.Option(help="Also show epochs in tensorboard or mlflow (extras of those names).")
]


def read_films(manifest: Path) -> "Manifest":
    """The films of a training; read before torch is loaded, so that a wrong path gets its answer at once."""
    from hilum.datasets.manifest import Manifest

    return Manifest.read(manifest, thumbs=False)


def training_config(
    films: "Manifest", *, backbone: str, weights: str, recipe: str, precision: str | None, folds: int | None, seed: int
) -> "TrainConfig":
    """How each run of a comparison trains; ``folds`` None takes as many as the split has.

    Raises:
        ConfigError: an unknown recipe or a value out of range.
    """
    from hilum.runs.recipes import changed
    from hilum.runs.recipes import recipe as recipe_of
    from hilum.runs.train import TrainConfig, findings_of, folds_of

    return TrainConfig(
        backbone=backbone,
        weights=weights,
        recipe=changed(recipe_of(recipe), precision=precision),
        folds=folds_of(films) if folds is None else folds,
        seed=seed,
        findings=findings_of(films),
    )
