"""Small synthetic films for the tests of data sets: smooth random fields, all different, that show nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hilum.arrays import Array
from hilum.datasets.manifest import Manifest


@pytest.fixture
def field() -> Callable[..., Array]:
    """``field(seed, side=96)``: uint16 [side, side] with structure of several sizes, as a film has."""

    def make(seed: int, side: int = 96) -> Array:
        rng = np.random.default_rng(seed)
        sizes = [side / 64, side / 32, side / 16, side / 8]
        noise = sum(ndimage.gaussian_filter(rng.normal(size=(side, side)), size) * size for size in sizes)
        return ((noise - noise.min()) / np.ptp(noise) * 65535).astype(np.uint16)

    return make


@pytest.fixture
def save_png(tmp_path: Path, field: Callable[..., Array]) -> Callable[[str, int], Path]:
    """``save_png("normal/a.png", seed)``: write a field below tmp_path."""

    def save(name: str, seed: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((field(seed) // 257).astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def films_of(tmp_path: Path) -> Callable[..., Manifest]:
    """``films_of(n, **columns)``: a manifest of n films that were never on disk, a patient each unless told."""

    def make(n: int, **columns: Any) -> Manifest:
        told = {
            "path": [f"{i}.png" for i in range(n)],
            "patient_id": [f"p{i}" for i in range(n)],
            "film_id": [f"{i:064x}" for i in range(n)],
        }
        return Manifest.from_columns({**told, **columns}, folder=tmp_path)

    return make
