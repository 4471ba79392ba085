"""Answers to classes of unequal size under one protocol: the same split, weights, stages and seed, one run an answer.

They are compared by what each film got from the members that did not fit it. That is where such a choice may be made:
the locked test share stays closed, and is for the answer that was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from hilum.config import fingerprint, to_mapping
from hilum.datasets.manifest import Manifest
from hilum.errors import UsageError, nearest
from hilum.evaluation.differences import differences
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.scorecard import score
from hilum.files import write_bytes, write_json, write_text
from hilum.progress import Progress, Silent
from hilum.provenance import environment, now_utc
from hilum.reports.page import Page, figures_of, render_page
from hilum.runs.imbalance_report import answer_sentences, sections
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig, train_config
from hilum.training.device import Where
from hilum.training.imbalance import STRATEGIES, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, and where it is told."""

    measured: dict[str, Any]
    """Plain values: the protocol, and a row for each answer."""
    report: Path
    """The page; its JSON and figures lie beside it."""


def compare_imbalance(
    films: Manifest,
    config: TrainConfig,
    out: Path,
    *,
    strategies: Sequence[str] = (),
    cache: Path | None = None,
    device: Where = "cpu",
    resamples: int = 1000,
    command: str = "",
    progress: Progress | None = None,
) -> Comparison:
    """Train a run for each answer, and write ``report.html``, ``report.json`` and figures.

    The runs lie in ``out/runs`` and share the prefix cache, as no answer touches the frozen layers. The same call goes
    on where it was stopped; finished runs are not repeated.

    Args:
        films: a manifest that was split.
        config: what all runs share; its recipe's numbers (γ, β, τ) are kept.
        out: folder of the comparison.
        strategies: names in :data:`hilum.training.imbalance.STRATEGIES`; empty for all. The first is what the others
            are held against, ``none`` where it is among them.
        cache: folder shared between runs; None for ``.cache`` in ``out``.
        device: where runs are computed.
        resamples: of the intervals.
        command: that makes it again, for the page.
        progress: where progress goes.

    Raises:
        UsageError: an unknown name, fewer than two, or what the device lacks.
        DataError: the manifest was not split, or films that can't be read.
        RunError: a folder holds a run of another config.
    """
    names, progress = _checked(strategies), progress or Silent()
    runs: dict[str, Run] = {}
    for name in names:
        answer = replace(config.recipe.imbalance, strategy=name)
        progress.say(f"Answer {len(runs) + 1} of {len(names)}: {answer.text()}.")
        runs[name] = train_config(
            films,
            replace(config, recipe=replace(config.recipe, imbalance=answer)),
            out / "runs" / name,
            cache=cache or out / ".cache",
            device=device,
            progress=progress,
        )
    measured = _measured(films, config, runs, resamples, progress)
    page = Page(
        title="Answers to classes of unequal size",
        subtitle=f"{config.backbone}, weights {config.weights}, {config.members} members a run, "
        f"{measured['films']} films of {measured['patients']} patients",
        sections=sections(measured, command),
        footer=f"hilum compare-imbalance, {measured['created']}",
    )
    for figure in figures_of(page.sections):
        write_bytes(out / "figures" / f"{figure.name}.png", figure.png)
        write_bytes(out / "figures" / f"{figure.name}.svg", figure.svg)
    write_json(out / "report.json", measured)
    write_text(out / "report.html", render_page(page))
    return Comparison(measured=measured, report=out / "report.html")


def _checked(strategies: Sequence[str]) -> list[Strategy]:
    """The names in the table's order, each once."""
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        raise UsageError(f"There is no answer {unknown[0]!r} to imbalance. {nearest(unknown[0], list(STRATEGIES))}")
    names = [name for name in get_args(Strategy) if not strategies or name in strategies]
    if len(names) < 2:
        raise UsageError(f"A comparison needs two answers or more, but got only {names[0]!r}. Name another --strategy.")
    return names


def _measured(
    films: Manifest, config: TrainConfig, runs: dict[str, Run], resamples: int, progress: Progress
) -> dict[str, Any]:
    settings = Resampling(seed=config.seed, resamples=resamples)
    base, rows = next(iter(runs)), []
    for name, run in runs.items():
        said = run.out_of_fold()
        card = score(said, name=f"out of fold, {name}", seed=config.seed, resamples=resamples, progress=progress)
        against = {} if name == base else differences(said, runs[base].out_of_fold(), settings)
        rows.append(
            {
                "strategy": name,
                "answer": run.recipe.imbalance.text(),
                "what": STRATEGIES[run.recipe.imbalance.strategy],
                "sensitivity": to_plain(card.sensitivity),
                "macro_auroc": to_plain(card.macro_auroc),
                "balanced_accuracy": to_plain(card.balanced_accuracy),
                "accuracy": to_plain(card.accuracy),
                "ece": to_plain(card.calibration_after.ece),
                "calibration": run.calibration.to_json(),
                "against": to_plain(against),
                "seconds": run.result["seconds"],
            }
        )
    measured = {
        "schema": 1,
        "created": now_utc(),
        "base": base,
        "findings": list(config.findings),
        "films": card.films,
        "patients": card.patients,
        "class_films": card.class_films,
        "class_patients": card.class_patients,
        "sources": sorted(set(films.groups()["source"])),
        "measured_on": "the fold that each member watched" if config.folds == 1 else "films out of fold",
        "optimistic": config.folds == 1,
        "resamples": resamples,
        "rows": rows,
        "config": to_mapping(config),
        "config_fingerprint": fingerprint(config),
        "films_fingerprint": films.fingerprint,
        "environment": environment(),
    }
    return {**measured, "sentences": answer_sentences(measured)}
