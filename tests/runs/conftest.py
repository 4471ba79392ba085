"""A small real run: synthetic phantom films of 192 rows, tiles of 64, the shipped encoder, two folds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.datasets.importing import import_folder
from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.datasets.splits import SplitConfig, split
from hilum.imaging.preprocessing import Preprocessing
from hilum.runs.curves import write_curves
from hilum.runs.recipes import recipe
from hilum.runs.run import Run
from hilum.runs.tiles import load_tiles
from hilum.runs.train import TrainConfig, train_config

PREPROCESSING = Preprocessing(size=64)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``split.parquet`` (first hospital), ``external.parquet`` (second) and, for runs, ``runs/.cache``."""
    folder = tmp_path_factory.mktemp("cohort")
    generate(PhantomConfig(patients=60, size=192, second_film_share=0), folder / "films", workers=1)
    films, problems = import_folder(folder / "films", workers=0)
    assert problems == []
    source = films.column("source")
    split(films.select(np.flatnonzero(source == "hospital-a")), SplitConfig(folds=2)).write(folder / "split.parquet")
    films.select(np.flatnonzero(source == "hospital-b")).write(folder / "external.parquet")
    # Decoded here once, so that runs which share this cache start no processes for it; test_tiles.py is about those.
    load_tiles(films, PREPROCESSING, folder / "runs" / ".cache", workers=0)
    return folder


@pytest.fixture(scope="session")
def small() -> TrainConfig:
    quick = recipe("phantom")
    head, block = quick.stages
    return TrainConfig(
        backbone="hilum_small",
        weights="hilum",
        recipe=replace(
            quick,
            preprocessing=PREPROCESSING,
            stages=(replace(head, epochs=3, views=1), replace(block, epochs=2, views=1)),
        ),
        folds=2,
    )


@pytest.fixture(scope="session", autouse=True)
def _few_drawings() -> Iterator[None]:
    """Most runs of the tests draw no curves, which takes as long as their training; :func:`run` does."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hilum.runs.train.write_curves", lambda *_: [])
        yield


@pytest.fixture(scope="session")
def run(cohort: Path, small: TrainConfig) -> Run:
    """Trained once for all tests, and drawn."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hilum.runs.train.write_curves", write_curves)
        return train_config(Manifest.read(cohort / "split.parquet"), small, cohort / "runs" / "small")
