"""Whether films are external to a run: checked against all it has seen before one of them is answered."""

from collections.abc import Sequence

import numpy as np

from hilum.datasets.duplicates import DuplicateConfig
from hilum.datasets.manifest import Manifest
from hilum.datasets.shared_films import shared_films
from hilum.evaluation.externality import Development, why_not_external
from hilum.evaluation.known_data import NOT_RECORDED
from hilum.predictions import Predictions
from hilum.progress import Progress
from hilum.runs.run import Run

LOOK_ALIKE = DuplicateConfig(similarity=0.9)
"""When a film counts as a copy of one that was seen: stricter than a split, which may join a few too many."""


def development(run: Run, declared: Sequence[str] = ()) -> Development:
    """What the run has seen: every film, patient and source of its split, and what its weights were made from.

    Args:
        run: a finished run.
        declared: names of the data that the weights were made from, for weights whose file doesn't say.
    """
    seen = run.films
    weights = run.result["weights"] or {}
    recorded = tuple(weights.get("pretrained_on", ()))
    if declared:
        recorded = (*(name for name in recorded if name != NOT_RECORDED), *declared)
    return Development(
        film_ids=frozenset(seen.strings("film_id")),
        patient_ids=frozenset(seen.strings("patient_id")),
        sources=frozenset(seen.groups()["source"]),
        pretrained_on=recorded,
    )


def why_shared(
    run: Run, films: Manifest, declared: Sequence[str] = (), *, progress: Progress | None = None
) -> tuple[str, ...]:
    """Why films can't be called external to a run: shared films, patients, sources, look-alikes, or pretraining."""
    nothing = np.zeros((len(films), len(run.findings)))
    named = Predictions(
        findings=run.findings,
        film_ids=tuple(films.strings("film_id")),
        patient_ids=tuple(films.strings("patient_id")),
        logits=nothing,
        probs=nothing,
        targets=nothing,
        groups=films.groups(),
    )
    copies = shared_films(run.films, films, LOOK_ALIKE, progress=progress).copies
    return why_not_external(named, development(run, declared), copies=len(copies))
