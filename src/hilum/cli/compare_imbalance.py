"""``hilum compare-imbalance``: answers to classes of unequal size under one protocol."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress, table
from hilum.cli.train import DeviceOption, FoldsOption, PrecisionOption


def compare_imbalance(
    manifest: Annotated[Path, typer.Argument(help="A split manifest (hilum data split).")],
    out: Annotated[Path, typer.Option(help="The comparison's folder; the same command goes on where it was stopped.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="An answer to compare, as of hilum train --imbalance; repeat it.", show_default="all"),
    ] = None,
    backbone: Annotated[str, typer.Option(help="Network of the zoo (hilum models list).")] = "mobilenet_v2",
    weights: Annotated[str, typer.Option(help="imagenet, hilum, none, or a .safetensors file.")] = "imagenet",
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a .toml or .json file.")] = "starter",
    folds: FoldsOption = None,
    precision: PrecisionOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all chance.")] = 0,
    resamples: Annotated[int, typer.Option(min=100, help="Of every interval.")] = 1000,
    cache: Annotated[
        Path | None, typer.Option(help="Folder shared between runs.", show_default=".cache inside")
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare answers to class imbalance: a run each on one split, measured out of fold, with intervals by patient."""
    from hilum.datasets.manifest import Manifest

    films = Manifest.read(manifest, thumbs=False)  # before torch is loaded: a wrong path gets its answer at once
    from hilum.runs.imbalance import compare_imbalance as compare
    from hilum.runs.recipes import changed
    from hilum.runs.recipes import recipe as recipe_of
    from hilum.runs.train import TrainConfig, findings_of, folds_of

    config = TrainConfig(
        backbone=backbone,
        weights=weights,
        recipe=changed(recipe_of(recipe), precision=precision),
        folds=folds_of(films) if folds is None else folds,
        seed=seed,
        findings=findings_of(films),
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
