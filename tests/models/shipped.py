"""The shipped encoder as a small exported network, and films for it."""

import numpy as np
import torch
from numpy.typing import NDArray

from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.models.classifier import ClassifierConfig, build_classifier
from hilum.models.explained import Explained
from hilum.models.export import export_onnx

SIZE, HIDDEN = 64, 32


def tiles_of(count: int, seed: int = 7) -> NDArray[np.uint8]:
    """Synthetic phantom films of two hospitals, as preprocessing gives them: uint8 [n, 1, h, w]."""
    plans = plan_cohort(PhantomConfig(patients=count, size=128, seed=seed, second_film_share=0))[:count]
    pixels = ((np.clip(render(plan).pixels, 0, 1) * 65535).astype(np.uint16) for plan in plans)
    return np.stack([preprocess(film, Preprocessing(size=SIZE)) for film in pixels])[:, None]


def shipped_network() -> tuple[Explained, bytes]:
    """With a head as after training: pooled features standardised, so that no unit is idle."""
    config = ClassifierConfig(backbone="hilum_small", findings=("normal", "a", "b"), size=SIZE, hidden=HIDDEN)
    classifier = build_classifier(config, "hilum", 0)[0].eval()
    with torch.inference_mode():
        pooled = classifier.features(torch.from_numpy(tiles_of(12, seed=1))).mean((2, 3))
    classifier.head.standardise(pooled.mean(0), pooled.std(0))
    explained = Explained([classifier], temperature=1.3)
    return explained, export_onnx(explained)
