"""What fixed views cost and gain: V = 1, 4, 8 cached views of each film against fresh views made live.

Run: OMP_NUM_THREADS=2 python benchmarks/prefix_views.py [FILMS] [--backbone hilum_small] [--epochs 30 15] [--seeds 3]

FILMS is a split manifest (.parquet); without it phantom films are made, which are synthetic. Each row is the same
recipe (head, then last block) on the same films in fp32: cached with V fixed views, which the epochs take in
turn, or live with a fresh view each epoch and nothing cached. Every cell starts with an empty cache, so its seconds
hold the one pass through the frozen layers. Accuracy is on the films of the test part.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, main, spread, table

from hilum.datasets.importing import import_folder
from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.datasets.splits import SplitConfig, split
from hilum.imaging.preprocessing import Preprocessing
from hilum.labels import Findings
from hilum.models.classifier import ClassifierConfig, build_classifier
from hilum.runs.recipes import recipe
from hilum.runs.tiles import load_tiles
from hilum.training.prediction import predict_logits
from hilum.training.prefix_cache import PrefixCache
from hilum.training.transfer import TrainingConfig, TrainingData, train_member

LIVE = "live"


def phantoms(folder: Path, patients: int, seed: int) -> Manifest:
    generate(PhantomConfig(patients=patients, size=256, second_film_share=0, seed=seed), folder)
    films, _ = import_folder(folder, cache=folder / ".facts.sqlite")
    return split(films, SplitConfig(folds=4))


def one(options: argparse.Namespace, films: Manifest, tiles: np.ndarray, views: int | str, seed: int, work: Path):
    """Seconds, of them in frozen layers, and accuracy on the test part."""
    findings = Findings(tuple(films.labels))
    targets = films.targets(findings)
    test, watch = films.rows(part="test"), films.rows(part="fit", fold=0)
    fit = np.setdiff1d(films.rows(part="fit"), watch)
    config = ClassifierConfig(backbone=options.backbone, findings=findings.names, size=options.size)
    classifier, _ = build_classifier(config, options.weights, seed)
    shown = None if views == LIVE else int(views)
    stages = tuple(
        replace(stage, epochs=count, patience=count, views=shown)
        for stage, count in zip(recipe(options.recipe).stages, options.epochs, strict=True)
    )
    data = TrainingData(tiles=tiles, film_ids=tuple(films.strings("film_id")), targets=targets, fit=fit, watch=watch)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        cache = None if views == LIVE else PrefixCache(Path(folder) / "prefix")
        settings = TrainingConfig(view_seed=seed, frozen_precision="fp32")
        started = time.perf_counter()
        history = train_member(
            classifier, data, stages, settings, folder=Path(folder) / "member", cache=cache, seed=seed
        )
        seconds = time.perf_counter() - started
    right = predict_logits(classifier, tiles[test]).argmax(1) == targets[test].argmax(1)
    return seconds, history.prefix_s, float(right.mean())


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.patients, options.size, options.epochs, options.seeds, options.views = 60, 64, [2, 1], 2, ["1", LIVE]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        films = Manifest.read(options.films) if options.films else phantoms(work / "films", options.patients, 0)
        tiles = load_tiles(films, Preprocessing(size=options.size), work / "cache")
        measured: dict[str, Any] = {
            "films": len(films),
            "kind": options.films.name if options.films else "synthetic phantom films",
            "size": options.size,
            "backbone": f"{options.backbone} ({Path(options.weights).name})",
            "epochs": options.epochs,
            "cells": {views: [] for views in options.views},
        }
        for seed in range(options.seeds):
            for views in options.views:
                seconds, prefix, right = one(options, films, tiles, views, seed, work)
                measured["cells"][views].append({"seconds": seconds, "prefix": prefix, "accuracy": right})
            save(measured)
    return measured


def write(measured: dict[str, Any]) -> str:
    cells, (first, second) = measured["cells"], measured["epochs"]
    text = head(measured) + (
        f"\n{measured['films']} {measured['kind']} at {measured['size']}², {measured['backbone']}, {first} + {second} "
        f"epochs, fp32, {len(next(iter(cells.values())))} seeds: medians (smallest–largest).\n\n"
    )
    rows = []
    for views, found in cells.items():
        shown = [spread([one[key] for one in found], digits) for key, digits in
                 (("seconds", ".1f"), ("prefix", ".1f"), ("accuracy", ".3f"))]  # fmt: skip
        live = cells.get(LIVE, [])
        faster = [b["seconds"] / a["seconds"] for a, b in zip(found, live, strict=True)] if live else []
        rows.append([views, *shown, spread(faster) if faster else "–"])
    columns = ["views", "seconds", "of them frozen layers, once", "test accuracy", "times as fast as live"]
    return text + table(columns, rows)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("films", type=Path, nargs="?", help="a split manifest; phantoms when not given")
    parser.add_argument("--patients", type=int, default=600, help="of the phantoms")
    parser.add_argument("--backbone", default="hilum_small")
    parser.add_argument("--weights", default="hilum")
    parser.add_argument("--recipe", default="phantom", help="of two stages; epochs and views are those given here")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, nargs=2, default=[30, 15])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--views", nargs="+", default=["1", "4", "8", LIVE])


if __name__ == "__main__":
    main(__doc__, measure, write, add)
