"""Accuracy is never traded for speed: the cached path against the live path, on the locked test share, over seeds.

Run: OMP_NUM_THREADS=2 python benchmarks/same_accuracy.py --data-dir ../shared/data

Chest films of DATA_DIR/chest by patient; MobileNetV2 with the ImageNet weights of DATA_DIR/weights, other backbones
with random ones, since there are none, and running statistics of the films; the recipe ``starter`` with fewer epochs at
a smaller size. A seed moves the head's start, the order of films, dropout and the views; the split stays. Cached: V
fixed views, frozen layers in bf16 where it is in hardware, an fp16 store. Live: the same in fp32 with a fresh view each
epoch and nothing cached, as trainings usually are. Both keep the weights with the lowest loss on the watched fold. The
difference of means is within the seed spread when it is no larger than the range of live over its seeds. Macro AUROC is
the mean of one against the rest.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _section import Save, bf16, head, main, spread, table
from two_stage import ChestFilms, chest_films, workplace

from hilum.evaluation.ranks import auroc
from hilum.models.classifier import ClassifierConfig, build_classifier
from hilum.runs.recipes import RECIPES
from hilum.training.prediction import predict_logits
from hilum.training.prefix_cache import PrefixCache
from hilum.training.recalibration import recalibrate_batch_norm
from hilum.training.transfer import TrainingConfig, TrainingData, train_member

WEIGHTS = {"mobilenet_v2": "mobilenet_v2_imagenet_dequant_bnfolded.safetensors"}
WAYS = ("cached", "live")
RECALIBRATED = 256
"""Films that the batch normalisation of random layers is recalibrated on, or their outputs would explode."""
METRICS = {"auroc": "macro AUROC", "accuracy": "accuracy"}


def one(
    films: ChestFilms, backbone: str, way: str, seed: int, options: argparse.Namespace, work: Path
) -> dict[str, float]:
    """Train once; seconds, and what the test films say."""
    recipe, cached = RECIPES["starter"], way == "cached"
    known = backbone in WEIGHTS and not options.smoke
    weights: Any = options.data_dir / "weights" / WEIGHTS[backbone] if known else "none"
    config = ClassifierConfig(
        backbone=backbone, findings=films.names, size=options.size, hidden=recipe.hidden, dropout=recipe.dropout
    )
    classifier, _ = build_classifier(config, weights, seed)
    if not known:
        tiles = torch.from_numpy(films.tiles[films.fit[:RECALIBRATED]])[:, None]
        with torch.no_grad():
            recalibrate_batch_norm(classifier.encoder, torch.split(classifier.normalise(tiles), 32))
    rates = (1e-3, 1e-4)
    stages = tuple(
        replace(stage, epochs=count, patience=count, lr=lr, views=stage.views if cached else None)
        for stage, count, lr in zip(recipe.stages, options.epochs, rates, strict=True)
    )
    data = TrainingData(
        tiles=films.tiles, film_ids=films.film_ids, targets=films.targets, fit=films.fit, watch=films.watch
    )
    settings = TrainingConfig(view_seed=seed, frozen_precision="auto" if cached else "fp32")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        cache = PrefixCache(Path(folder) / "prefix") if cached else None
        started = time.perf_counter()
        train_member(classifier, data, stages, settings, folder=Path(folder) / "member", cache=cache, seed=seed)
        seconds = time.perf_counter() - started
    logits, truth = predict_logits(classifier, films.tiles[films.test]), films.targets[films.test]
    aurocs = [auroc(logits[:, k] - np.delete(logits, k, 1).max(1), truth[:, k] == 1) for k in range(truth.shape[1])]
    right = logits.argmax(1) == truth.argmax(1)
    return {"seconds": seconds, "auroc": float(np.mean(aurocs)), "accuracy": float(right.mean())}


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.films, options.size, options.seeds, options.epochs = 60, 64, 2, [1, 1]
    with workplace(options.work) as work:
        films = chest_films(options.data_dir, options.size, work, options.films)
        measured: dict[str, Any] = {
            "films": {part: len(getattr(films, part)) for part in ("fit", "watch", "test")},
            "size": options.size,
            "epochs": options.epochs,
            "frozen": "bf16" if bf16() else "fp32",
            "runs": {backbone: {way: [] for way in WAYS} for backbone in options.backbones},
        }
        for seed in range(options.seeds):
            for backbone, runs in measured["runs"].items():
                for way, found in runs.items():
                    print(f"seed {seed}: {backbone}, {way}", file=sys.stderr, flush=True)
                    found.append(one(films, backbone, way, seed, options, work))
                save(measured)
    return measured


def write(measured: dict[str, Any]) -> str:
    films, runs, (first, second) = measured["films"], measured["runs"], measured["epochs"]
    seeds = min(len(found) for ways in runs.values() for found in ways.values())
    text = head(measured) + (
        f"\n{measured['size']} px, {films['fit']} chest films fitted, {films['watch']} watched, {films['test']} locked "
        f"for the test; {first} + {second} epochs, {seeds} seeds. Cached: frozen layers in {measured['frozen']}, fp16 "
        "store, fixed views; live: fp32, fresh views. Medians (smallest–largest); differences are of means.\n\n"
    )
    rows = []
    for backbone, ways in runs.items():
        seconds = " against ".join(spread([one["seconds"] for one in ways[way]]) for way in WAYS)
        weights = "ImageNet weights" if backbone in WEIGHTS else "random weights"
        for key, name in METRICS.items():
            cached, live = ([one[key] for one in ways[way]] for way in WAYS)
            difference = statistics.mean(cached) - statistics.mean(live)
            width = max(live) - min(live)
            # A cached path that is better than live by more than the spread has lost nothing.
            within = "yes" if abs(difference) <= width else f"**no**, {'better' if difference > 0 else 'worse'}"
            figures = [spread(cached, ".3f"), spread(live, ".3f"), f"{difference:+.3f}", f"{width:.3f}", within]
            rows.append([f"{backbone}, {weights}: {name}", *figures, seconds])
    columns = ["", "cached", "live", "difference of means", "range of live over seeds", "within it", "seconds"]
    return text + table(columns, rows)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"), help="holds chest/ and weights/")
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2", "densenet121"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--films", type=int, help="films to fit at most; all when not given")
    parser.add_argument("--epochs", type=int, nargs=2, default=[15, 8])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps decoded tiles; a temporary folder when not given")


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    main(__doc__, measure, write, add)
