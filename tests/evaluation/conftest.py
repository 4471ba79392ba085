"""Synthetic predictions: what a classifier of a stated skill would say of films with stated groups."""

from collections.abc import Callable

import numpy as np
import pytest

from hilum.evaluation.calibration import softmax
from hilum.labels import CHEST
from hilum.predictions import Predictions
from hilum.randomness import stream


def _make(
    n: int = 240,
    *,
    skill: float = 1.5,
    seed: int = 0,
    per_patient: int = 2,
    temperature: float = 1.0,
    sources: tuple[str, str] = ("hospital-a", "hospital-b"),
    confounded: bool = False,
) -> Predictions:
    rng = stream(seed, "synthetic")
    patient = np.arange(n) // per_patient
    classes = patient % 3
    logits = rng.normal(size=(n, 3)) * temperature
    logits[np.arange(n), classes] += skill * temperature
    second = rng.random(n)[patient] < 0.5
    if confounded:
        second = (classes == 2) | (patient % 7 == 1)
    where = np.where(second, sources[1], sources[0])
    groups = {
        "source": tuple(where.tolist()),
        "view_position": tuple(rng.choice(["PA", "AP"], n).tolist()),
        "sex": tuple(rng.choice(["F", "M", ""], n)[patient].tolist()),
        "age_band": tuple(rng.choice(["18-39", "40-64", "65+"], n)[patient].tolist()),
        "device": tuple(f"device of {name}" for name in where),
    }
    return Predictions(
        findings=CHEST,
        film_ids=tuple(f"film{i}" for i in range(n)),
        patient_ids=tuple(f"patient{i}" for i in patient),
        logits=logits,
        probs=softmax(logits / temperature),
        targets=np.eye(3)[classes],
        groups=groups,
    )


@pytest.fixture(scope="session")
def make() -> Callable[..., Predictions]:
    """``make(n, skill=, seed=, confounded=…)``: synthetic predictions."""
    return _make
