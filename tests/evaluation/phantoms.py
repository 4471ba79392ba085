"""Phantom cohorts for audits: small tiles with what their headers say, and a light model as the network."""

from dataclasses import replace
from functools import partial

import numpy as np

from hilum.arrays import Array, Indices, Scores, Tiles
from hilum.datasets.columns import age_bands
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.evaluation.auditing import AuditedFilms, audit_films, audit_network, pixel_features
from hilum.evaluation.audits import Audit, concluded
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.light_models import smoother
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.labels import CHEST


def cohort(patients: int, seed: int, *, shortcut: float = 0.0, side: int = 64) -> AuditedFilms:
    """One film a patient, two hospitals, everything in the header drawn without a look at the finding."""
    config = PhantomConfig(patients=patients, size=128, second_film_share=0, seed=seed, shortcut=shortcut)
    plans = plan_cohort(config)
    tiles = [
        preprocess((render(plan).pixels.clip(0, 1) * 65535).astype(np.uint16), Preprocessing(size=side))
        for plan in plans
    ]
    ages = np.array([plan.age_years for plan in plans], dtype=np.float64)
    return AuditedFilms(
        tiles=np.stack(tiles),
        findings=CHEST,
        classes=np.array([CHEST.index(plan.label) for plan in plans]),
        patient_ids=tuple(plan.patient_id for plan in plans),
        groups={
            "source": [plan.hospital for plan in plans],
            "view_position": [plan.view for plan in plans],
            "sex": [plan.sex for plan in plans],
            "age_band": age_bands(ages).tolist(),
            "device": [plan.device.model for plan in plans],
        },
        metadata={"age_years": ages, "width": np.array([plan.columns for plan in plans], dtype=np.float64)},
    )


def fitted(films: AuditedFilms) -> partial[Scores]:
    """A light model as the network: films → probabilities."""
    return partial(_answer, pixel_features(films.tiles), np.eye(3)[films.classes])


def _answer(known: Array, targets: Array, tiles: Tiles) -> Scores:
    values = np.concatenate([known, pixel_features(tiles)])
    weights = smoother(values, np.arange(len(known)), np.arange(len(known), len(values)))
    scores = np.exp(6 * weights @ (targets - targets.mean(axis=0)))
    return scores / scores.sum(axis=1, keepdims=True)


def halved(films: AuditedFilms) -> AuditedFilms:
    """The same films at half the side."""
    n, side = len(films.tiles), films.tiles.shape[1] // 2
    tiles = films.tiles.reshape(n, side, 2, side, 2).mean(axis=(2, 4)).astype(np.uint8)
    return replace(films, tiles=tiles)


def audited(
    films: AuditedFilms, lungs: Array | None = None, *, seed: int = 0, permutations: int = 449
) -> tuple[Audit, ...]:
    """All audits of a cohort: films by cross-validation, and a network fitted on half and asked about the rest."""
    settings = Resampling(resamples=60, seed=seed)
    rows = audit_films(films, pixel_features, lungs=lungs, settings=settings, permutations=permutations)
    parity: Indices = np.arange(len(films.tiles)) % 2
    network = fitted(films.select(np.flatnonzero(parity == 0)))
    rows += audit_network(films.select(np.flatnonzero(parity == 1)), network, lungs=lungs, settings=settings)
    return concluded(rows)
