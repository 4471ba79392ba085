"""What a linear model on 32 × 32 pixels reaches on the demo's films: the task must not be solved by it.

Fitted on the first hospital's fit part and tested on the second hospital, as the demo's network is.
``python benchmarks/phantom_difficulty.py --demo demo``
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, main, table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hilum.datasets.manifest import Manifest
from hilum.imaging.preprocessing import Preprocessing
from hilum.runs.tiles import load_tiles


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    folder = options.demo
    split = Manifest.read(folder / "split.parquet", thumbs=False)
    fit, outside = split.select(split.rows(part="fit")), Manifest.read(folder / "external.parquet", thumbs=False)
    with tempfile.TemporaryDirectory() as cache:
        x, z = (
            load_tiles(films, Preprocessing(size=32), Path(cache)).reshape(len(films), -1) / 255
            for films in (fit, outside)
        )
    labels, truth = np.array(fit.strings("label")), np.array(outside.strings("label"))
    rows = []
    for strength in (1.0,) if options.smoke else (0.0001, 0.001, 0.01, 0.1, 1.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000)).fit(x, labels)
        probs = model.predict_proba(z)
        aurocs = [roc_auc_score(truth == name, probs[:, i]) for i, name in enumerate(model.classes_)]
        rows.append({"C": strength, "auroc": float(np.mean(aurocs))})
    return {"rows": rows}


def write(measured: dict[str, Any]) -> str:
    rows = [[f"{row['C']:g}", f"{row['auroc']:.3f}"] for row in measured["rows"]]
    about = "\nSynthetic films; the network of the demo is in [results.md](results.md).\n\n"
    return head(measured) + about + table(["C", "macro AUROC, second hospital"], rows)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of a finished demo")


if __name__ == "__main__":
    main(__doc__, measure, write, add)
