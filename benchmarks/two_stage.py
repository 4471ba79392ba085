"""Two-stage transfer on chest films: the prefix cache against the same recipe live, the usual fp32 loop, and Keras 3.

Run: OMP_NUM_THREADS=2 python benchmarks/two_stage.py --data-dir ../shared/data [--keras-python VENV/bin/python]

Films are those of DATA_DIR/chest, tiles of 224 px as ``hilum train`` makes them (made before anything is timed); a
locked fifth of the patients is left aside, one fold of five is watched. The recipe is ``starter``: 30 epochs of the
head, 15 of the last block and the head, 4 views of each film, the clean one among them, batches of 32; weights are
random, which changes no time. Ways, in turn within each repeat:

ours       the prefix cache, empty at the start: everything is timed, from the first line to the last checkpoint
live       the same recipe in the same precisions with nothing cached
fp32 live  the same in fp32 throughout: what the usual loop costs, with films in memory and augmented in batches
keras      Keras 3 (keras.applications, frozen base, augmentation layers, model.fit) on the same tiles in memory; in an
           interpreter of its own: ``python -m venv VENV; VENV/bin/pip install keras tensorflow-cpu``
fastai     fastai's cnn_learner loop on the same tiles, likewise: ``VENV/bin/pip install fastai``

Without a cache every epoch of a stage costs the same, so the last three are timed for ``--timed`` epochs a stage after
``--warm`` ones, and multiplied by 30 and 15. Clean epochs (one in four) are spared the augmentation in that product.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _section import Save, clocked, gains_by_bf16, head, main, spread, table, verdict

from hilum.arrays import Indices, Scores, Tiles
from hilum.datasets.importing import import_csv
from hilum.datasets.splits import SplitConfig, split
from hilum.imaging.preprocessing import Preprocessing
from hilum.labels import Findings
from hilum.models.classifier import ClassifierConfig, build_classifier
from hilum.runs.recipes import RECIPES, changed
from hilum.runs.tiles import load_tiles
from hilum.training import live, prefix_cache, transfer
from hilum.training.films import Films
from hilum.training.optimisers import Optimiser
from hilum.training.prefix_cache import PrefixCache, PrefixOutputs
from hilum.training.recalibration import recalibrate_batch_norm
from hilum.training.row_store import RowStore
from hilum.training.stages import stage_cut
from hilum.training.trained_part import TrainedPart
from hilum.training.transfer import TrainingConfig, TrainingData, train_member

EPOCHS = (30, 15)
CALIBRATED = 32
"""Films from which batch normalisation takes its statistics before anything is timed."""
VIEWS = 4
"""Views of each film that epochs take turns with: the clean one and three augmented ones."""
BARS = {
    "densenet121": {"live": 6.0, "fp32 live": 14.0, "keras": 10.0},
    "mobilenet_v2": {"live": 5.0, "keras": 10.0},
}
AGAINST = ("live", "fp32 live", "keras", "fastai")

CLOCKS: tuple[tuple[object, str, Any], ...] = (
    (prefix_cache, "make_views", "views"),
    (live, "make_views", "views"),
    (prefix_cache, "frozen_outputs", "frozen layers"),
    (live, "frozen_outputs", "frozen layers"),
    (RowStore, "append", "writing the cache"),
    (RowStore, "check", "checking the cache"),
    (PrefixOutputs, "__call__", "reading the cache"),
    (TrainedPart, "forward", lambda part, *rest: "forward" if part.training else "scoring"),
    (Optimiser, "backward", "backward"),
    (Optimiser, "step", "optimiser"),
    (transfer, "save_checkpoint", "checkpoints"),
    (transfer, "tensors_fingerprint", "fingerprints"),
    (prefix_cache, "prefix_fingerprint", "fingerprints"),
    (Films, "digest", "fingerprints"),
)
"""What is timed inside a training, and what it is called."""


@dataclass(frozen=True, kw_only=True)
class ChestFilms:
    tiles: Tiles
    film_ids: tuple[str, ...]
    targets: Scores
    names: tuple[str, ...]
    fit: Indices
    watch: Indices
    test: Indices


def chest_films(data_dir: Path, size: int, work: Path, limit: int | None = None, seed: int = 0) -> ChestFilms:
    """Films of DATA_DIR/chest, split by patient; at most so many of them to fit, and of watched ones in proportion."""
    films, _ = import_csv(data_dir / "chest" / "manifest.csv", cache=work / "facts.sqlite")
    films = split(films, SplitConfig(folds=5, seed=seed))
    names = Findings(tuple(films.labels))
    test, watch = films.rows(part="test"), films.rows(part="fit", fold=0)
    fit = np.setdiff1d(films.rows(part="fit"), watch)
    if limit and limit < len(fit):
        share = limit / len(fit)
        drawn = np.random.default_rng(seed)
        fit, watch, test = (
            np.sort(drawn.choice(rows, max(8, round(share * len(rows))), replace=False)) for rows in (fit, watch, test)
        )
        kept = np.concatenate([fit, watch, test])
        films = films.select(kept)
        fit, watch, test = np.split(np.arange(len(kept)), np.cumsum([len(fit), len(watch)]))
    return ChestFilms(
        tiles=load_tiles(films, Preprocessing(size=size), work / "cache"),
        film_ids=tuple(films.strings("film_id")),
        targets=films.targets(names),
        names=names.names,
        fit=fit,
        watch=watch,
        test=test,
    )


@dataclass(frozen=True, kw_only=True)
class Way:
    frozen: str
    trained: str
    cached: bool = False


def trained(films: ChestFilms, backbone: str, size: int, way: Way, epochs: Sequence[int], work: Path) -> dict[str, Any]:
    """Train once; wall seconds of the whole, and for each epoch those of each part."""
    recipe = changed(RECIPES["starter"], precision=way.trained)
    stages = tuple(
        replace(stage, epochs=count, patience=count, views=VIEWS - 1)
        for stage, count in zip(recipe.stages, epochs, strict=True)
    )
    config = ClassifierConfig(backbone=backbone, findings=films.names, size=size, hidden=recipe.hidden)
    classifier, _ = build_classifier(config, "none", 0)
    # Random weights: without it the values of a deep network grow beyond what half precision holds.
    some = torch.from_numpy(films.tiles[films.fit[:CALIBRATED]]).float().div(255).sub(0.5).div(0.25)[:, None]
    wide = some.expand(-1, classifier.encoder.in_channels, -1, -1).contiguous(memory_format=torch.channels_last)
    recalibrate_batch_norm(classifier.encoder, torch.split(wide, 16))
    data = TrainingData(
        tiles=films.tiles, film_ids=films.film_ids, targets=films.targets, fit=films.fit, watch=films.watch
    )
    settings = TrainingConfig(augmentation=recipe.augmentation, frozen_precision=way.frozen)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=work) as folder, clocked(CLOCKS) as seconds:
        cache = PrefixCache(Path(folder) / "prefix") if way.cached else None
        begun = marked = time.perf_counter()
        before: dict[str, float] = {}

        def close(row: Mapping[str, Any]) -> None:
            nonlocal marked, before
            now = time.perf_counter()
            parts = {name: spent - before.get(name, 0.0) for name, spent in seconds.items()}
            rows.append({"stage": row["stage"], "seconds": now - marked, "parts": parts})
            marked, before = now, dict(seconds)

        train_member(
            classifier, data, stages, settings, folder=Path(folder) / "member", cache=cache, seed=0, watch=close
        )
        ended = time.perf_counter()
        tail = {name: spent - before.get(name, 0.0) for name, spent in seconds.items()}
        rows.append({"stage": "end", "seconds": ended - marked, "parts": tail})
        held = sum(file.stat().st_size for file in Path(folder).rglob("rows.bin"))
    cuts = [stage_cut(stage, classifier.encoder) for stage in stages]
    layers = classifier.encoder.layers
    return {
        "seconds": ended - begun,
        "rows": rows,
        "cache_mb": held / 1e6,
        "cuts": [f"{layers[cut]} (layer {cut + 1} of {len(layers)})" if cut < len(layers) else "head" for cut in cuts],
    }


def live_seconds(run: Mapping[str, Any], epochs: Sequence[int], timed: int) -> dict[str, Any]:
    """Seconds of an epoch of each stage, and of all epochs, from the last timed ones of a live run."""
    found, whole = [], 0.0
    for stage, count in zip(("head", "last-block"), epochs, strict=True):
        rows = [row for row in run["rows"] if row["stage"] == stage][-timed:]
        epoch = statistics.median(row["seconds"] for row in rows)
        views = statistics.median(row["parts"].get("views", 0.0) for row in rows)
        clean = -(-count // VIEWS)  # epochs 0, 4, 8, … train on view 0, which is not augmented
        found.append(epoch)
        whole += count * epoch - clean * views
    return {"epochs": found, "seconds": whole}


def elsewhere(script: str, python: Path, films: ChestFilms, backbone: str, options: argparse.Namespace, work: Path):
    """Epoch seconds of each stage in another interpreter, and what it is."""
    tiles = work / "films.npz"
    if not tiles.exists():
        np.savez(tiles, tiles=films.tiles, targets=films.targets, fit=films.fit, watch=films.watch)
    command = [str(python), str(Path(__file__).with_name(script)), str(tiles), "--backbone", backbone]
    command += ["--warm", str(options.warm), "--timed", str(options.timed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    found["seconds"] = sum(
        count * statistics.median(seconds) for count, seconds in zip(options.epochs, found["epochs"], strict=True)
    )
    return found


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.films, options.size, options.repeats, options.epochs = 40, 64, 2, [2, 2]
    narrow = gains_by_bf16()
    frozen = options.frozen_precision or ("bf16" if narrow else "fp32")
    precision = options.trained_precision or ("bf16" if narrow else "fp32")
    with workplace(options.work) as work:
        films = chest_films(options.data_dir, options.size, work, options.films)
        measured: dict[str, Any] = {
            "films": {part: len(getattr(films, part)) for part in ("fit", "watch")},
            "size": options.size,
            "epochs": options.epochs,
            "warm": options.warm,
            "timed": options.timed,
            "precisions": {"frozen layers": frozen, "trained layers": precision},
            "networks": {backbone: [] for backbone in options.backbones},
        }
        for backbone in options.backbones:
            for _ in range(options.repeats):
                measured["networks"][backbone].append(repeat(films, backbone, frozen, precision, options, work))
                save(measured)
    return measured


@contextlib.contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """A folder for tiles and caches: the given one, which is kept, or one that goes."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def repeat(
    films: ChestFilms, backbone: str, frozen: str, precision: str, options: argparse.Namespace, work: Path
) -> dict[str, Any]:
    """Each way once, one after the other."""
    tell = lambda what: print(f"{backbone}: {what}", file=sys.stderr, flush=True)  # noqa: E731
    few = [options.warm + options.timed] * 2
    tell("ours")
    same = Way(frozen=frozen, trained=precision)
    found = {"ours": trained(films, backbone, options.size, replace(same, cached=True), options.epochs, work)}
    for name, way in (("live", same), ("fp32 live", Way(frozen="fp32", trained="fp32"))):
        tell(name)
        run = trained(films, backbone, options.size, way, few, work)
        found[name] = run | live_seconds(run, options.epochs, options.timed)
    for name, python in (("keras", options.keras_python), ("fastai", options.fastai_python)):
        if python:
            tell(name)
            found[name] = elsewhere(f"two_stage_{name}.py", python, films, backbone, options, work)
    return found


def per_film(run: Mapping[str, Any], films: Mapping[str, int], *, cached: bool) -> dict[str, float]:
    """Milliseconds a film of each kind of work in one run."""
    fit, watch = films["fit"], films["watch"]

    def spent(stage: str, *parts: str) -> list[float]:
        rows = [row["parts"] for row in run["rows"] if row["stage"] == stage]
        return [sum(row.get(part, 0.0) for part in parts) for row in rows[1:] or rows]

    def ms(seconds: list[float], count: int) -> float:
        return 1000 * statistics.median(seconds) / count

    every = sum(row["parts"].get("frozen layers", 0.0) for row in run["rows"])
    steps = ("forward", "backward", "optimiser")
    found = {
        "head": ms(spent("head", *steps), fit),
        "suffix": ms(spent("last-block", *steps), fit),
        "suffix scored": ms(spent("last-block", "scoring"), watch),
    }
    if cached:
        views = sum(row["parts"].get("views", 0.0) for row in run["rows"])
        return found | {"whole": 1000 * every / (VIEWS * fit + watch), "views": 1000 * views / (VIEWS * fit + watch)}
    return found | {
        "whole": ms(spent("head", "frozen layers"), fit + watch),
        "prefix": ms(spent("last-block", "frozen layers"), fit + watch),
        "views": ms(spent("head", "views"), fit + watch),
    }


def ceiling(ours: Mapping[str, float], other: Mapping[str, float], measured: Mapping[str, Any]) -> float:
    """How many times as fast ours could be if nothing but network and augmentation took time (Amdahl)."""
    fit, watch = measured["films"]["fit"], measured["films"]["watch"]
    first, second = measured["epochs"]

    def trained_s(one: Mapping[str, float]) -> float:
        return first * fit * one["head"] + second * (fit * one["suffix"] + watch * one["suffix scored"])

    theirs = (fit + watch) * (first * other["whole"] + second * other["prefix"])
    theirs += (first + second) * (1 - 1 / VIEWS) * (fit + watch) * other["views"] + trained_s(other)
    once = (VIEWS * fit + watch) * (ours["whole"] + ours["views"])
    return theirs / (once + trained_s(ours))


def write(measured: dict[str, Any]) -> str:
    films, (first, second) = measured["films"], measured["epochs"]
    frozen, precision = measured["precisions"].values()
    text = head(measured) + (
        f"\n{films['fit']} chest films are fitted and {films['watch']} watched, at {measured['size']} px; {first} "
        f"epochs of the head and {second} of the last block, {VIEWS} views of each film, the clean one among them, "
        f"batches of 32, random weights. Frozen layers in {frozen}, trained ones in {precision}. Ours is timed whole, "
        "with an empty cache at the start; without a cache an epoch costs the same each time, so "
        f"{measured['timed']} a stage are timed after {measured['warm']} to warm up, and multiplied by {first} and "
        f"{second}. Medians (smallest–largest) of repeats in which the ways take turns.\n"
    )
    for backbone, repeats in measured["networks"].items():
        if repeats:
            text += network_section(backbone, repeats, measured)
    return text


def network_section(backbone: str, repeats: list[dict[str, Any]], measured: dict[str, Any]) -> str:
    """Times and ratios, milliseconds a film with their ceilings, and where our time goes."""
    films = measured["films"]
    cut = repeats[0]["ours"]["cuts"][-1]
    text = f"\n### {backbone}, cut before {cut}\n\n"
    rows = [["ours, cached", spread([one["ours"]["seconds"] for one in repeats]), "", "", "", ""]]
    whole = [per_film(one["ours"], films, cached=True) for one in repeats]
    for name in AGAINST:
        if name not in repeats[0]:
            continue
        ratios = [one[name]["seconds"] / one["ours"]["seconds"] for one in repeats]
        epochs = [spread([statistics.median(np.atleast_1d(one[name]["epochs"][i])) for one in repeats]) for i in (0, 1)]
        bar = BARS.get(backbone, {}).get(name)
        top = ""
        if name in ("live", "fp32 live"):
            others = [per_film(one[name], films, cached=False) for one in repeats]
            tops = [ceiling(a, b, measured) for a, b in zip(whole, others, strict=True)]
            top = f", ceiling {statistics.median(tops):.1f}"
        rows.append(
            [
                label(name, repeats[0][name], measured),
                spread([one[name]["seconds"] for one in repeats], ".0f"),
                *epochs,
                spread(ratios) + top,
                verdict(statistics.median(ratios), bar) if bar else "–",
            ]
        )
    columns = ["way", "seconds", "epoch of the head, s", "epoch of the last block, s", "times ours", "bar"]
    return text + table(columns, rows) + costs(repeats, films) + profile(repeats)


def label(name: str, run: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    frozen, precision = measured["precisions"].values()
    said = {"live": f"live, same precision ({frozen}, {precision})", "fp32 live": "live, fp32 throughout"}
    return said.get(name) or run["what"]


def costs(repeats: list[dict[str, Any]], films: Mapping[str, int]) -> str:
    """Milliseconds a film."""
    kinds = {
        "views": "augmentation",
        "whole": "frozen layers, all (stage 1)",
        "prefix": "frozen layers before the cut (stage 2)",
        "suffix": "last block and head, a training step",
        "suffix scored": "last block and head, scoring",
        "head": "head, a training step",
    }
    ways = {"ours": True, "live": False, "fp32 live": False}
    found = {way: [per_film(one[way], films, cached=cached) for one in repeats] for way, cached in ways.items()}
    rows = [
        [said, *(spread([one[kind] for one in found[way]], ".2f") if kind in found[way][0] else "–" for way in ways)]
        for kind, said in kinds.items()
    ]
    return "\nMilliseconds a film:\n\n" + table(["work", "ours, cached", "live, same precision", "live, fp32"], rows)


def profile(repeats: list[dict[str, Any]]) -> str:
    """Where the seconds of ours go, summed over the whole training."""
    sums: list[dict[str, float]] = []
    for one in repeats:
        parts: dict[str, float] = {}
        for row in one["ours"]["rows"]:
            stage = {"head": " (head)", "last-block": " (last block)"}.get(row["stage"], "")
            for name, seconds in row["parts"].items():
                staged = name in ("reading the cache", "forward", "backward", "optimiser", "scoring")
                key = name + stage if staged else name
                parts[key] = parts.get(key, 0.0) + seconds
        parts["the loop and the rest"] = one["ours"]["seconds"] - sum(parts.values())
        sums.append(parts)

    def share(*names: str) -> float:
        """Of a run's seconds, the median over runs."""
        wholes = [sum(one.values()) for one in sums]
        return statistics.median(
            sum(one.get(name, 0.0) for name in names) / whole for one, whole in zip(sums, wholes, strict=True)
        )

    rows = [
        [name, spread([one.get(name, 0.0) for one in sums], ".2f"), f"{100 * share(name):.1f} %"]
        for name in sorted(sums[0], key=share, reverse=True)
        if share(name) >= 0.001
    ]
    size = repeats[0]["ours"]["cache_mb"]
    frozen, block = share("frozen layers"), share("forward (last block)", "backward (last block)")
    return (
        f"\nWhere ours spends its time (the cache ends at {size:.0f} MB):\n\n"
        + table(["", "seconds", "share"], rows)
        + f"\nThe network's own arithmetic bounds it: {100 * frozen:.0f} % run the frozen layers, once a view, and "
        f"{100 * block:.0f} % are forward and backward passes of the last block. All that the cache and the loop add "
        f"is among the other {100 * (1 - frozen - block):.0f} %. Sooner would be fewer views, fewer epochs of the last "
        "block, or a later cut.\n"
    )


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"), help="holds chest/manifest.csv")
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2", "densenet121"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--films", type=int, help="films to fit at most; all when not given")
    parser.add_argument("--epochs", type=int, nargs=2, default=list(EPOCHS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1, help="epochs a stage before those that are timed")
    parser.add_argument("--timed", type=int, default=1, help="epochs a stage that are timed, in each repeat")
    parser.add_argument("--frozen-precision", choices=["fp32", "bf16"], help="bf16 where the processor gains by it")
    parser.add_argument("--trained-precision", choices=["fp32", "bf16"], help="bf16 where the processor gains by it")
    parser.add_argument("--keras-python", type=Path, help="interpreter that has Keras 3")
    parser.add_argument("--fastai-python", type=Path, help="interpreter that has fastai")
    parser.add_argument("--work", type=Path, help="keeps decoded tiles; a temporary folder when not given")


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    main(__doc__, measure, write, add)
