"""``hilum train`` and ``hilum evaluate``: a run, and what it is worth."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hilum.cli.terminal import JsonOption, QuietOption, finish, progress, table
from hilum.cli.training_options import (
    BackboneOption,
    CacheOption,
    CostOption,
    DeviceOption,
    FloorOption,
    FoldsOption,
    ImbalanceOption,
    PrecisionOption,
    RecipeOption,
    ResamplesOption,
    RuleOption,
    SeedOption,
    SmoothingOption,
    WatchOption,
    WeightsOption,
    read_films,
)

if TYPE_CHECKING:
    from hilum.evaluation.thresholds import OperatingRules


def train(
    manifest: Annotated[Path, typer.Argument(help="A split manifest (hilum data split).")],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command goes on where it was stopped.")],
    backbone: BackboneOption = "mobilenet_v2",
    weights: WeightsOption = "imagenet",
    recipe: RecipeOption = "starter",
    imbalance: ImbalanceOption = None,
    label_smoothing: SmoothingOption = None,
    precision: PrecisionOption = None,
    folds: FoldsOption = None,
    seeds: Annotated[int, typer.Option(help="Train every fold so often; all members in one ensemble.")] = 1,
    seed: SeedOption = 0,
    cache: CacheOption = None,
    data_path: Annotated[
        str, typer.Option(help="Films resident in memory, streaming from disk, or auto: by size.")
    ] = "auto",
    device: DeviceOption = "auto",
    operating_points: RuleOption = "sensitivity-floor",
    floor: FloorOption = None,
    cost_of_miss: CostOption = None,
    watch: WatchOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier by patient-level folds, calibrate it, and choose operating points."""
    films = read_films(manifest)
    from hilum.runs.summary import training_summary
    from hilum.runs.train import train as train_run

    run = train_run(
        films,
        out=out,
        backbone=backbone,
        weights=weights,
        recipe_name=recipe,
        imbalance=imbalance,
        label_smoothing=label_smoothing,
        precision=precision,
        folds=folds,
        seeds=seeds,
        seed=seed,
        cache=cache,
        data_path=data_path,  # type: ignore[arg-type]  # checked where it is used
        device=device,
        operating=operating_rules(operating_points, floor or (), cost_of_miss),
        progress=progress(quiet or not speaks()),
        watch=watch or (),
    )
    if not speaks():
        return
    summary = training_summary(run)
    finish(summary, as_json=as_json, lines=_lines(summary, out))


def operating_rules(rule: str, floors: Sequence[str], cost_of_miss: float | None) -> "OperatingRules":
    """How thresholds are chosen, from what was typed.

    Raises:
        UsageError: a floor that is no number, or an option that the rule doesn't use.
        ConfigError: values out of range, all of them at once.
    """
    from hilum.config import from_mapping
    from hilum.errors import UsageError
    from hilum.evaluation.thresholds import OperatingRules

    if floors and rule != "sensitivity-floor":
        raise UsageError(f"--floor is for --operating-points sensitivity-floor, not for {rule}. Leave it out.")
    if cost_of_miss is not None and rule != "cost":
        raise UsageError(f"--cost-of-miss is for --operating-points cost, not for {rule}. Leave it out.")
    told: dict[str, Any] = {"rule": rule, "floors": {}}
    for text in floors:
        finding, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise UsageError(f"--floor is {text!r}, but must be a number or FINDING=NUMBER, such as 0.95.") from None
        if finding:
            told["floors"][finding] = number
        else:
            told["sensitivity_floor"] = number
    if cost_of_miss is not None:
        told["cost_of_miss"] = cost_of_miss
    return from_mapping(OperatingRules, told, where="--operating-points")


def _lines(summary: Mapping[str, Any], out: Path) -> list[str]:
    """What a finished training says."""
    rows = [(name, e["auroc"]) for name, e in summary["validation"].items()]
    return [
        *table(("finding", f"AUROC {summary['validation_kind']}"), rows),
        f"calibration: {summary['calibration']}",
        *([summary["calibration_note"]] if summary["calibration_note"] else []),
        f"operating points: {summary['operating_points']}",
        "time: {training:.1f} s in epochs, {prefix:.1f} s for frozen layers".format(**summary["seconds"]),
        f"run: {out}   next: hilum evaluate {out}",
    ]


def speaks() -> bool:
    """Whether this process tells how it goes: the only one, or the first of those that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def evaluate(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    on: Annotated[Path | None, typer.Option(help="Another manifest; else the run's locked test share.")] = None,
    external: Annotated[bool, typer.Option("--external", help="Claim that those films are external.")] = False,
    resamples: ResamplesOption = 1000,
    interval: Annotated[
        Literal["percentile", "bca"],
        typer.Option(help="Bounds as quantiles of the resamples, or with these corrected for bias and skewness (BCa)."),
    ] = "percentile",
    audits: Annotated[
        bool, typer.Option(help="Look for ways round the disease: light models, and the network on changed films.")
    ] = True,
    pretrained_on: Annotated[
        list[str] | None,
        typer.Option(help="What the weights were made from, where their file doesn't say; repeatable."),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on films it was not fitted on, and write its report."""
    from hilum.runs.layout import RunFolder

    folder = RunFolder(run)
    folder.read(folder.result)  # before torch is loaded: a wrong path gets its answer at once
    from hilum.runs.audits import audit_run
    from hilum.runs.evaluate import evaluate as evaluate_run
    from hilum.runs.report import report_run, saved_scorecard
    from hilum.runs.run import Run
    from hilum.runs.summary import evaluation_summary

    opened = Run.open(run)
    done = evaluate_run(
        opened,
        on=on,
        external=external,
        pretrained_on=pretrained_on or (),
        resamples=resamples,
        interval=interval,
        progress=progress(quiet),
    )
    looked = None
    if audits:
        looked = audit_run(opened, done, resamples=resamples, interval=interval, progress=progress(quiet))
    internal = saved_scorecard(opened, "internal")
    path, verdict = report_run(
        opened,
        done,
        internal=internal if external else done.scorecard,
        external=done.scorecard if external else saved_scorecard(opened, "external"),
        audits=looked,
        command=shlex.join(["hilum", *sys.argv[1:]]),
    )
    summary = evaluation_summary(done, verdict, path)
    finish(summary, as_json=as_json, lines=_measured(summary))


def _measured(summary: Mapping[str, Any]) -> list[str]:
    """What a finished evaluation says."""
    rows = [(name, m["auroc"], m["sensitivity"], m["specificity"]) for name, m in summary["findings"].items()]
    return [
        f"{summary['verdict'].upper()}: {summary['headline']}",
        *(f"  {flag}" for flag in summary["red_flags"]),
        *table(("finding", "AUROC", "sensitivity", "specificity"), rows),
        f"accuracy {summary['accuracy']}, ECE {summary['ece']} on {summary['films']} films ({summary['test']})",
        *([summary["opening"]] if summary["opening"] else []),
        f"report: {summary['path']}",
    ]
