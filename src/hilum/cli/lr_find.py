"""``hilum lr-find``: which learning rate suits a stage."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress
from hilum.cli.training_options import (
    BackboneOption,
    CacheOption,
    DeviceOption,
    PrecisionOption,
    RecipeOption,
    SeedOption,
    WeightsOption,
    read_films,
    training_config,
)


def lr_find(
    manifest: Annotated[Path, typer.Argument(help="A split manifest (hilum data split).")],
    out: Annotated[Path, typer.Option(help="Folder for lr_find.json, .png and .svg.")],
    stage: Annotated[str, typer.Option(help="Stage of the recipe; those before it are trained first.")] = "",
    backbone: BackboneOption = "mobilenet_v2",
    weights: WeightsOption = "imagenet",
    recipe: RecipeOption = "starter",
    low: Annotated[float, typer.Option(help="First rate.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Last rate.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Rates tried, one step each; 20 or more.")] = 100,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find a learning rate: a short training whose rate rises step by step, drawn and read by a named rule."""
    films = read_films(manifest)
    from hilum.runs.lr_find import find_rate, to_use_it
    from hilum.training.lr_finder import SweepConfig

    config = training_config(
        films,
        backbone=backbone,
        weights=weights,
        recipe=recipe,
        precision=precision,
        folds=1,
        seed=seed,
    )
    found = find_rate(
        films,
        config,
        out,
        stage=stage,
        sweep=SweepConfig(low=low, high=high, steps=steps),
        cache=cache,
        device=device,
        progress=progress(quiet),
    )
    swept = found.told["stage"]["name"]
    lines = [f"stage {swept}: {found.told['sentence']}", *to_use_it(found.sweep, swept, recipe)]
    lines += [f"curve: {found.json.with_suffix('.png')}", f"numbers: {found.json}"]
    finish({"path": str(found.json), **found.told}, as_json=as_json, lines=lines)
