"""``hilum cross-validate``: a recipe in outer folds that neither trained, stopped nor calibrated anything."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress, table
from hilum.cli.training_options import (
    BackboneOption,
    DeviceOption,
    PrecisionOption,
    RecipeOption,
    ResamplesOption,
    SeedOption,
    WeightsOption,
    read_films,
    training_config,
)


def cross_validate(
    manifest: Annotated[Path, typer.Argument(help="A split manifest (hilum data split); its fit part is used.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; the same command goes on where it was stopped.")],
    outer: Annotated[int, typer.Option(min=2, help="Outer folds, each answered by a run that never saw it.")] = 5,
    inner: Annotated[int, typer.Option(min=2, help="Folds of each run: for stopping, calibration, thresholds.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="How often films are divided anew into outer folds.")] = 1,
    backbone: BackboneOption = "mobilenet_v2",
    weights: WeightsOption = "imagenet",
    recipe: RecipeOption = "starter",
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
    resamples: ResamplesOption = 1000,
    cache: Annotated[
        Path | None, typer.Option(help="Folder shared between runs.", show_default=".cache inside")
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cross-validate a recipe, nested and by patient; the locked test share stays closed."""
    films = read_films(manifest)
    from hilum.evaluation.estimates import Estimate
    from hilum.runs.cross_validate import cross_validate as validate

    config = training_config(
        films,
        backbone=backbone,
        weights=weights,
        recipe=recipe,
        precision=precision,
        folds=inner,
        seed=seed,
    )
    done = validate(
        films,
        config,
        out,
        outer=outer,
        repeats=repeats,
        cache=cache,
        device=device,
        resamples=resamples,
        progress=progress(quiet),
    )
    rows = [
        (str(number + 1), name, card.auroc[name].text(), Estimate(**told["mean_over_folds"][name]).text())
        for number, (card, told) in enumerate(zip(done.cards, done.measured["repetitions"], strict=True))
        for name in card.findings
    ]
    header = ("repetition", "finding", "AUROC, films pooled", "AUROC, mean over outer folds")
    lines = [*table(header, rows), f"everything: {done.path}"]
    finish({"path": str(done.path), **done.measured}, as_json=as_json, lines=lines)
