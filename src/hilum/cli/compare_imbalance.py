"""``hilum compare-imbalance``: answers to classes of unequal size under one protocol."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress, table
from hilum.cli.training_options import (
    BackboneOption,
    DeviceOption,
    FoldsOption,
    PrecisionOption,
    RecipeOption,
    ResamplesOption,
    SeedOption,
    WeightsOption,
    read_films,
    training_config,
)


def compare_imbalance(
    manifest: Annotated[Path, typer.Argument(help="A split manifest (hilum data split).")],
    out: Annotated[Path, typer.Option(help="The comparison's folder; the same command goes on where it was stopped.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="An answer to compare, as of hilum train --imbalance; repeat it.", show_default="all"),
    ] = None,
    backbone: BackboneOption = "mobilenet_v2",
    weights: WeightsOption = "imagenet",
    recipe: RecipeOption = "starter",
    folds: FoldsOption = None,
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
    """Compare answers to class imbalance: a run each on one split, measured out of fold, with intervals by patient."""
    films = read_films(manifest)
    from hilum.runs.imbalance import compare_imbalance as compare

    config = training_config(
        films,
        backbone=backbone,
        weights=weights,
        recipe=recipe,
        precision=precision,
        folds=folds,
        seed=seed,
    )
    done = compare(
        films,
        config,
        out,
        strategies=strategy or (),
        cache=cache,
        device=device,
        resamples=resamples,
        command=shlex.join(["hilum", *sys.argv[1:]]),
        progress=progress(quiet),
    )
    lines = [*_table(done.measured), "", *done.measured["sentences"], f"report: {done.report}"]
    finish({"path": str(done.report), **done.measured}, as_json=as_json, lines=lines)


def _table(measured: Mapping[str, Any]) -> list[str]:
    """A row for each answer."""
    from hilum.runs.imbalance_report import estimate

    findings = measured["findings"]
    rows = [
        (
            row["answer"],
            *(estimate(row["sensitivity"][name]).text() for name in findings),
            estimate(row["balanced_accuracy"]).text(),
            estimate(row["macro_auroc"]).text(3),
            estimate(row["ece"]).text(3),
        )
        for row in measured["rows"]
    ]
    header = ("answer", *(f"sensitivity {name}" for name in findings), "balanced accuracy", "macro AUROC", "ECE")
    return table(header, rows)
