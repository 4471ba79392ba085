"""Chest films of two classes, normal and pneumonia, for a study of transfer: real ones from one source, or phantoms.

Real films are those of NIH ChestX-ray14 alone: a second source would let a network tell sources apart instead of
findings. They are split by patient, and the split proves it. Phantoms are drawn in memory, small, and named synthetic.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.arrays import Array, Indices
from hilum.config import fingerprint
from hilum.datasets.image_cache import Allocate, kept_images
from hilum.datasets.importing import import_csv
from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.cohort import FilmPlan, plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.datasets.phantom.writing import VERSION
from hilum.datasets.splits import SplitConfig, split
from hilum.errors import DataError
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.progress import track
from hilum.randomness import stream
from hilum.runs.tiles import load_tiles
from hilum.studies.bench import Bench, DataUsed

CLASSES = ("normal", "pneumonia")
"""What is told apart."""

SOURCE = "nih"
"""The one source that films are taken from."""

PHANTOM_ROWS = 128
"""Rows of a phantom film as it is drawn: far fewer than a detector has, so that drawing doesn't outlast training."""

TEST_SHARE = 0.4
"""Share of the patients who are tested on."""

NIH = "NIH ChestX-ray14: Wang et al. 2017, doi:10.1109/CVPR.2017.369"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class XrayFilms:
    """Films in two parts, no patient in both.

    Attributes:
        train: tiles uint8 [n, 1, size, size] and labels int64 [n], 1 for pneumonia.
        test: the same to test on.
        patients: a name for each test film's patient.
        synthetic: whether they are phantoms.
    """

    train: tuple[Array, Indices]
    test: tuple[Array, Indices]
    patients: tuple[str, ...]
    synthetic: bool


def open_xray_films(bench: Bench, *, size: int, films: int) -> XrayFilms:
    """Films from the data root's ``chest`` folder, or phantoms where there is none; the report's first line says which.

    Args:
        bench: the study's bench.
        size: pixels a side of a tile.
        films: about how many in all; patients are drawn by lot until they are reached.

    Raises:
        DataError: the chest set can't be used, or has no films of both classes from the one source.
    """
    table = bench.root / "chest" / "manifest.csv" if bench.root else None
    if table is None or not table.is_file():
        why = f"there is no chest/manifest.csv in {bench.root}" if bench.root else "no --data-dir was given"
        return _phantoms(bench, size, films, why)
    return _real(bench, size, films, table)


def _real(bench: Bench, size: int, films: int, table: Path) -> XrayFilms:
    folder = bench.cache / "chest"
    folder.mkdir(parents=True, exist_ok=True)
    every, _ = import_csv(table, cache=folder / "public.cache", progress=bench.progress)
    ours = np.isin(every.column("label"), CLASSES) & (every.column("source") == SOURCE)
    here = every.select(np.flatnonzero(ours))
    if set(here.labels) != set(CLASSES):
        raise DataError(
            f"{table} has films of {', '.join(here.labels) or 'neither class'} from source {SOURCE!r}, but the X-ray "
            f"task needs {' and '.join(CLASSES)}. Complete the table, or give a --data-dir without chest/."
        )
    some = here.select(_some_patients(here.strings("patient_id"), films, bench.seed))
    chosen = split(some, SplitConfig(test_share=TEST_SHARE, folds=2, seed=bench.seed), progress=bench.progress)
    tiles = load_tiles(chosen, Preprocessing(size=size), folder, progress=bench.progress)[:, None]
    labels = np.array([CLASSES.index(name) for name in chosen.strings("label")], dtype=np.int64)
    fit, test = chosen.rows(part="fit"), chosen.rows(part="test")
    patients = np.array(chosen.strings("patient_id"))
    _use(bench, here, chosen, size)
    return XrayFilms(
        train=(tiles[fit], labels[fit]),
        test=(tiles[test], labels[test]),
        patients=tuple(patients[test].tolist()),
        synthetic=False,
    )


def _use(bench: Bench, here: Manifest, chosen: Manifest, size: int) -> None:
    fit, test = len(chosen.rows(part="fit")), len(chosen.rows(part="test"))
    whole = len(chosen) == len(here)
    drawn = "" if whole else f" {len(chosen):,} of them, all films of patients drawn by lot."
    bench.use(
        DataUsed(
            name="chest",
            title="Chest films of NIH ChestX-ray14",
            kind="real",
            description=(
                f"Chest films: {len(here):,} real frontal radiographs, normal or pneumonia, of one source "
                f"(NIH ChestX-ray14).{drawn} At {size} × {size} px, split by patient: {fit:,} + {test:,}."
            ),
            source=f"{NIH}. Labels were mined from reports by its authors, not read again here.",
            train=fit,
            test=test,
            fingerprint=chosen.fingerprint,
        )
    )


def _some_patients(patients: list[str], films: int, seed: int) -> Indices:
    """Rows of all films of patients drawn by lot, until there are so many films."""
    names = np.array(patients)
    order = stream(seed, "x-ray patients").permutation(np.unique(names))
    counts = np.array([(names == name).sum() for name in order])
    kept = order[: int(np.searchsorted(np.cumsum(counts), films)) + 1]
    return np.flatnonzero(np.isin(names, kept))


def _phantoms(bench: Bench, size: int, films: int, why: str) -> XrayFilms:
    # A third of a cohort has COVID-19, and a quarter of the patients a second film.
    config = PhantomConfig(patients=round(films * 1.5 / 1.25), size=PHANTOM_ROWS, seed=bench.seed)
    plans = [plan for plan in plan_cohort(config) if plan.label in CLASSES]
    tiles = _drawn(bench, config, plans, size)
    labels = np.array([CLASSES.index(plan.label) for plan in plans], dtype=np.int64)
    patients = np.array([plan.patient_id for plan in plans])
    tested = stream(bench.seed, "phantom test").permutation(np.unique(patients))
    test = np.isin(patients, tested[: round(TEST_SHARE * len(tested))])
    bench.use(
        DataUsed(
            name="phantom",
            title="Phantom chest films (synthetic)",
            kind="embedded",
            description=(
                f"Phantom chest films: {len(plans):,} synthetic films, normal or pneumonia, drawn by procedure at "
                f"{PHANTOM_ROWS} px ({why}), at {size} × {size} px, split by patient: {int((~test).sum()):,} + "
                f"{int(test.sum()):,}; they say nothing about patients."
            ),
            source="hilum.datasets.phantom, this package.",
            train=int((~test).sum()),
            test=int(test.sum()),
            fingerprint=fingerprint(config),
        )
    )
    return XrayFilms(
        train=(tiles[~test], labels[~test]),
        test=(tiles[test], labels[test]),
        patients=tuple(patients[test].tolist()),
        synthetic=True,
    )


def _drawn(bench: Bench, config: PhantomConfig, plans: list[FilmPlan], size: int) -> Array:
    preprocessing = Preprocessing(size=size)

    def make(allocate: Allocate) -> dict[str, object]:
        tiles = allocate((len(plans), 1, size, size))
        for row, plan in enumerate(track(plans, bench.progress, "drawing phantom films", len(plans))):
            film = (render(plan).pixels * 65535).astype(np.uint16)
            tiles[row, 0] = preprocess(film, preprocessing)
        return {}

    key = fingerprint(
        {"phantom": VERSION, "config": config, "preprocessing": preprocessing, "classes": CLASSES, "films": len(plans)}
    )
    return kept_images(bench.cache / "data", f"phantom-{key[:32]}", make)[0]
