"""A cohort on disk: DICOM films in a folder for each hospital, lesion masks, and one table of labels.

``labels.csv`` comes last, so a folder that has it is complete; an interrupted run goes on where it was, film by film.
Everything is synthetic and says so in its tags. Assistive research software, not for diagnosis.
"""

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hilum.arrays import Mask
from hilum.config import fingerprint, to_mapping
from hilum.datasets.phantom.cohort import FilmPlan, plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.detector import store, window
from hilum.datasets.phantom.rendering import render
from hilum.errors import UsageError
from hilum.files import write_json, write_text
from hilum.imaging.dicom_writing import FilmHeader, film_dataset
from hilum.progress import Progress, Silent, track

VERSION = 1
"""Raise when the same config gives other films, so that an old folder is not taken for a new one."""

COLUMNS = ("path", "patient_id", "label", "source", "mask")
"""Columns of ``labels.csv``; everything else is in the films' headers."""


def generate(config: PhantomConfig, out: Path, *, workers: int | None = None, progress: Progress | None = None) -> Path:
    """Write a cohort: films ``<hospital>/<film>.dcm``, ``masks/<film>.png``, ``labels.csv`` and ``phantom.json``.

    The files depend on the config alone, whatever the number of workers. Called again on a complete folder it does
    nothing; on an interrupted one it writes what is missing.

    Args:
        config: the cohort.
        out: the folder; made if absent.
        workers: processes; one for each usable processor when None. More than one needs an importable main module.
        progress: where to report, film by film.

    Returns:
        path of ``labels.csv``.

    Raises:
        UsageError: the folder is a file or holds another cohort, or workers is below 1.
    """
    out, labels = Path(out), Path(out) / "labels.csv"
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}, but at least one process must draw the films.")
    _claim(config, out)
    if labels.exists():
        return labels
    plans = plan_cohort(config)
    todo = [plan for plan in plans if not _film_path(out, plan).exists()]
    for _ in track(_run(todo, out, workers), progress or Silent(), "Drawing phantom films", len(todo)):
        pass
    write_text(labels, _table(out, plans))
    return labels


def _claim(config: PhantomConfig, out: Path) -> None:
    """Make the folders and note the config; refuse a folder that holds another cohort."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, so no cohort can be written there. Name a folder.")
    note = out / "phantom.json"
    known = {"version": VERSION, "fingerprint": fingerprint(config), "synthetic": True, "config": to_mapping(config)}
    if note.exists():
        try:
            same = json.loads(note.read_text()) == known
        except ValueError:
            same = False
        if not same:
            raise UsageError(f"{out} holds a phantom cohort of another config. Name another folder, or remove it.")
    elif (out / "labels.csv").exists():
        raise UsageError(f"{out} holds a labels.csv that is no phantom cohort's. Name another folder.")
    for folder in (*config.hospitals, "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_json(note, known)


def _run(plans: list[FilmPlan], out: Path, workers: int | None) -> Iterator[None]:
    count = min(workers or _processors(), max(1, len(plans) // 4))
    if count == 1:
        yield from map(partial(write_one, out=out), plans)
        return
    # Spawned, not forked: the parent may hold threads (torch, a server), and a fork would copy their locks.
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(partial(write_one, out=out), plans, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_one(plan: FilmPlan, *, out: Path) -> None:
    """Draw and write one film and its mask; each file appears whole, the film last."""
    film = render(plan)
    if plan.label != "normal":
        _save_mask(film.lesion, _mask_path(out, plan))
    dataset = film_dataset(store(plan.device, film.pixels), header(plan))
    dataset.SeriesDescription = "Synthetic chest phantom"
    dataset.ImageComments = "Synthetic: drawn by procedure, no patient. Not for diagnosis."
    _appear(_film_path(out, plan), lambda path: dataset.save_as(path, enforce_file_format=True))


def header(plan: FilmPlan) -> FilmHeader:
    """What the film's file says besides its pixels."""
    device = plan.device
    rng = plan.stream("header")
    hour, minute, second = (int(rng.integers(*span)) for span in ((7, 20), (0, 60), (0, 60)))
    spacing = round(device.long_side_mm / plan.rows, 4)
    return FilmHeader(
        patient_id=plan.patient_id,
        patient_name=f"Phantom^{plan.patient:06d}",
        sex=plan.sex,
        age_years=float(plan.age_years),
        accession_number=f"PH{plan.patient:06d}{plan.film + 1}",
        study_date=plan.acquired.strftime("%Y%m%d"),
        study_time=f"{hour:02d}{minute:02d}{second:02d}",
        modality="CR" if device.modality == "CR" else "DX",
        view_position=plan.view,
        manufacturer=device.manufacturer,
        device=device.model,
        institution=f"{plan.hospital} (synthetic)",
        spacing_mm=(spacing, spacing),
        photometric="MONOCHROME1" if device.photometric == "MONOCHROME1" else "MONOCHROME2",
        bits_stored=device.bits_stored,
        window=window(device),
    )


def _film_path(out: Path, plan: FilmPlan) -> Path:
    return out / plan.hospital / f"{plan.name}.dcm"


def _mask_path(out: Path, plan: FilmPlan) -> Path:
    return out / "masks" / f"{plan.name}.png"


def _save_mask(mask: Mask, path: Path) -> None:
    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    _appear(path, lambda temporary: image.save(temporary, format="PNG", compress_level=1))


def _appear(path: Path, write: Any) -> None:
    """Write beside and rename. Not synced one by one: films can be drawn again, and 500 syncs take longer than that."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _table(out: Path, plans: tuple[FilmPlan, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for plan in plans:
        mask = "" if plan.label == "normal" else _mask_path(out, plan).relative_to(out).as_posix()
        path = _film_path(out, plan).relative_to(out).as_posix()
        writer.writerow((path, plan.patient_id, plan.label, plan.hospital, mask))
    return text.getvalue()
