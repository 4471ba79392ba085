"""Find a learning rate for a stage of a recipe, on the films that a run would fit; a curve, its numbers, no weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.config import fingerprint, to_mapping
from hilum.datasets.manifest import Manifest
from hilum.errors import UsageError, nearest
from hilum.files import write_bytes, write_json
from hilum.progress import Progress, Silent
from hilum.provenance import environment, now_utc
from hilum.reports.curves import Panel, Reference, Series, curves_figure
from hilum.reports.figures import Figure
from hilum.runs.layout import RunFolder
from hilum.runs.tiles import open_tiles
from hilum.runs.train import TrainConfig, Training, check_split, check_start
from hilum.training.device import Where, choose_device, device_in_words
from hilum.training.lr_finder import RULE, Sweep, SweepConfig
from hilum.training.stages import Stage
from hilum.training.transfer import sweep_stage, train_member


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRate:
    """A sweep, and where it is drawn."""

    sweep: Sweep
    """Rates, losses and the suggestion."""
    told: dict[str, Any]
    """What the JSON holds."""
    json: Path
    """``lr_find.json``; the figure lies beside it as PNG and SVG."""


def find_rate(
    films: Manifest,
    config: TrainConfig,
    out: Path,
    *,
    stage: str = "",
    sweep: SweepConfig | None = None,
    cache: Path | None = None,
    device: Where = "cpu",
    progress: Progress | None = None,
) -> FoundRate:
    """Sweep learning rates for a stage, as the first member of a run would train it.

    Stages before it are trained first, into ``out/before``, since what a stage starts from decides which rate suits
    it; the same call finds them there. No weights of the swept stage are kept.

    Args:
        films: a manifest that was split.
        config: as of a run; fold 0 is left out, as its first member does.
        out: folder for the JSON and the figure.
        stage: name of the recipe's stage; empty for its first.
        sweep: which rates; None for the default ones.
        cache: folder shared between runs; None for ``.cache`` beside ``out``.
        device: where it is computed, as of a run.
        progress: where progress goes.

    Raises:
        UsageError: no such stage, or what the device lacks.
        DataError: the manifest was not split, or films that can't be read.
        TrainingError: the stages before can't be trained, or a loss that is not finite from the start.
    """
    on = choose_device(device)
    check_split(films, config)
    sweep, progress, cache = sweep or SweepConfig(), progress or Silent(), cache or out.parent / ".cache"
    number, chosen = _stage(config, stage)
    check_start(config, cache, on)
    fitted = films.select(films.rows(part="fit"))
    training = Training(films, config, RunFolder(out), cache, progress, device=on)
    with open_tiles(fitted, config.recipe.preprocessing, cache, wanted="auto", progress=progress) as (tiles, _):
        classifier, data = training.begin(fitted, tiles, fold=0)
        settings, prefixes, seed = training.settings(), training.prefixes, config.seed
        if number:
            before, at = config.recipe.stages[:number], out / "before"
            train_member(classifier, data, before, settings, folder=at, cache=prefixes, seed=seed, progress=progress)
        found = sweep_stage(classifier, data, chosen, settings, sweep, cache=prefixes, seed=seed, progress=progress)
    told = {
        "schema": 1,
        "created": now_utc(),
        "stage": to_mapping(chosen),
        "films": len(data.known(data.fit)),
        "device": device_in_words(on),
        "rule": RULE,
        "sentence": in_words(found),
        "sweep": to_mapping(found),
        "config": to_mapping(config),
        "config_fingerprint": fingerprint(config),
        "films_fingerprint": films.fingerprint,
        "environment": environment(),
    }
    figure = draw(found, chosen)
    write_bytes(out / f"{figure.name}.png", figure.png)
    write_bytes(out / f"{figure.name}.svg", figure.svg)
    write_json(out / "lr_find.json", told)
    return FoundRate(sweep=found, told=told, json=out / "lr_find.json")


def _stage(config: TrainConfig, name: str) -> tuple[int, Stage]:
    stages = config.recipe.stages
    names = [stage.name for stage in stages]
    if name and name not in names:
        raise UsageError(f"The recipe has no stage {name!r}. {nearest(name, names)}")
    number = names.index(name) if name else 0
    return number, stages[number]


def in_words(sweep: Sweep) -> str:
    """What the sweep found, in one or two sentences."""
    tried = (
        f"{len(sweep.rates)} steps from {sweep.rates[0]:.2g} to {sweep.rates[-1]:.2g}; {sweep.ended}."
        if sweep.rates
        else f"No step was taken; {sweep.ended}."
    )
    if sweep.suggestion is None or sweep.lowest_at is None or sweep.steepest_at is None:
        return f"No suggestion. {sweep.reason} ({tried})"
    return (
        f"Suggested learning rate {sweep.suggestion:.2g}: {RULE} ({sweep.lowest_at:.2g}). It falls fastest at "
        f"{sweep.steepest_at:.2g}. {f'{sweep.reason} ' if sweep.reason else ''}({tried})"
    )


def to_use_it(sweep: Sweep, stage: str, recipe: str) -> list[str]:
    """Where the suggested rate is written down, in one line; none without a suggestion.

    Args:
        sweep: what was found.
        stage: name of the stage.
        recipe: name of the recipe, or its file.
    """
    if sweep.suggestion is None:
        return []
    where = recipe if recipe.endswith((".toml", ".json")) else f'a file .toml with based_on = "{recipe}"'
    return [
        f"to use it: in {where}, under [stages.{stage}], lr = {sweep.suggestion:.2g}; hilum train --recipe takes it"
    ]


def draw(sweep: Sweep, stage: Stage) -> Figure:
    """Loss against rate, with the suggestion."""
    marks = [
        Reference(value=rate, label=f"{word} {rate:.2g}", axis="x")
        for word, rate in (("suggested", sweep.suggestion), ("lowest", sweep.lowest_at))
        if rate is not None and rate >= sweep.rates[0]
    ]
    top = 2 * sweep.smoothed[0] if sweep.smoothed else 1.0
    above = sum(loss > top for loss in sweep.losses)
    cut = f" The axis ends at twice the first loss; {above} batches lie above." if above else ""
    return curves_figure(
        [
            Panel(
                series=(
                    Series(label="one batch", x=sweep.rates, y=sweep.losses, style="points"),
                    Series(label=f"mean of {sweep.averaged} steps", x=sweep.rates, y=sweep.smoothed, style="solid"),
                ),
                x_label="learning rate of the step before",
                y_label="loss of a batch",
                log_x=True,
                y_range=(0.9 * min(sweep.losses), top) if above else None,
                references=marks,
            )
        ],
        name="lr_find",
        title=f"Loss as the learning rate rises, stage {stage.name}",
        caption=f"{in_words(sweep)}{cut}",
    )
