"""What two manifests share: files, patients, instances, and films that look alike."""

from pathlib import Path

import numpy as np

from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.datasets.shared_films import shared_films
from hilum.datasets.thumbs import make_thumb


def manifest(thumbs: np.ndarray | None, names: str, patients: str) -> Manifest:
    columns = {
        "path": [f"{name}.dcm" for name in names],
        "film_id": [name * 64 for name in names],
        "patient_id": list(patients),
        "sop_instance_uid": ["" if name == "z" else f"1.2.{ord(name)}" for name in names],
    }
    return Manifest.from_columns(columns if thumbs is None else {**columns, "thumb": thumbs}, folder=Path())


def test_files_patients_instances_and_copies_are_counted_apart() -> None:
    films = [
        (render(plan).pixels.clip(0, 1) * 65535).astype(np.uint16)
        for plan in plan_cohort(PhantomConfig(patients=4, size=192, second_film_share=0, seed=1))
    ]
    thumbs = [make_thumb(film) for film in films]
    darker = make_thumb(((films[0] / 65535) ** 1.3 * 65535).astype(np.uint16))
    one = manifest(np.stack([*thumbs[:3]]), "abc", "pqr")
    other = manifest(np.stack([thumbs[1], darker, thumbs[3]]), "bxz", "rst")
    shared = shared_films(one, other)
    assert shared.files.tolist() == [0]
    assert shared.copies.tolist() == [1]
    assert shared.patients == 1
    assert shared.sop_instances.tolist() == [0]
    assert shared.compared == 2


def test_without_thumbs_looks_are_not_compared() -> None:
    shared = shared_films(manifest(None, "ab", "pq"), manifest(None, "bc", "qq"))
    assert shared.files.tolist() == [0]
    assert shared.copies.tolist() == []
    assert shared.compared == 0
