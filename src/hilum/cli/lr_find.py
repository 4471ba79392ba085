"""``hilum lr-find``: which learning rate suits a stage."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress
from hilum.cli.train import DeviceOption, PrecisionOption


def lr_find(
    manifest: Annotated[Path, typer.Argument(help="A split manifest (hilum data split).")],
    out: Annotated[Path, typer.Option(help="Folder for lr_find.json, .png and .svg.")],
    stage: Annotated[str, typer.Option(help="Stage of the recipe; those before it are trained first.")] = "",
    backbone: Annotated[str, typer.Option(help="Network of the zoo (hilum models list).")] = "mobilenet_v2",
    weights: Annotated[str, typer.Option(help="imagenet, hilum, none, or a .safetensors file.")] = "imagenet",
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a .toml or .json file.")] = "starter",
    low: Annotated[float, typer.Option(help="First rate.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Last rate.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Rates tried, one step each; 20 or more.")] = 100,
    precision: PrecisionOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all chance.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder shared between runs.", show_default=".cache beside")
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find a learning rate: a short training whose rate rises step by step, drawn and read by a named rule."""
    from hilum.datasets.manifest import Manifest

    films = Manifest.read(manifest, thumbs=False)  # before torch is loaded: a wrong path gets its answer at once
    from hilum.runs.lr_find import find_rate, to_use_it
    from hilum.runs.recipes import changed
    from hilum.runs.recipes import recipe as recipe_of
    from hilum.runs.train import TrainConfig, findings_of
    from hilum.training.lr_finder import SweepConfig

    config = TrainConfig(
        backbone=backbone,
        weights=weights,
        recipe=changed(recipe_of(recipe), precision=precision),
        folds=1,
        seed=seed,
        findings=findings_of(films),
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
