"""Recall of the duplicate finder per transform, and its false pairs, on real chest films.

Run: OMP_NUM_THREADS=1 python benchmarks/duplicates.py [FOLDER] [--films 300] [--seed 0]

FOLDER holds manifest.csv (image, patient_id) and the films; ../shared/data/chest when not given. For each transform a
sample of films is changed, added to the whole set, and looked for among all of it, exactly as an import would. A false
pair is a pair of films of different patients that counts as copies. The table is in docs/duplicates.md.
"""

import argparse
import csv
import io
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from hilum.arrays import Array
from hilum.datasets.duplicates import DuplicateConfig, judge, near_pairs
from hilum.datasets.thumbs import coarse_view, make_thumb
from hilum.imaging.reading import read_film
from hilum.randomness import stream

Transform = Callable[[Array, np.random.Generator], Array]


def crop(film: Array, left: float, right: float, top: float, bottom: float) -> Array:
    h, w = film.shape
    return film[round(top * h) : h - round(bottom * h), round(left * w) : w - round(right * w)]


def gamma(film: Array, rng: np.random.Generator) -> Array:
    return 65535 * (film / 65535) ** float(np.exp(rng.uniform(-1, 1) * np.log(1.8)))


def jpeg(film: Array, rng: np.random.Generator) -> Array:
    packed = io.BytesIO()
    Image.fromarray((film / 257).astype(np.uint8)).save(packed, "JPEG", quality=int(rng.integers(20, 60)))
    return np.asarray(Image.open(packed), dtype=np.float64) * 257


def window(film: Array, rng: np.random.Generator) -> Array:
    low, high = np.percentile(film, [5, 95])
    return np.clip((film - low) / (high - low), 0, 1) * 65535


def one_side(film: Array, rng: np.random.Generator) -> Array:
    sides = np.zeros(4)
    sides[rng.integers(4)] = 0.03
    return crop(film, *sides)


def rotate(film: Array, rng: np.random.Generator) -> Array:
    return ndimage.rotate(film, 2 * rng.choice([-1, 1]), reshape=False, order=1, mode="constant")


def marker(film: Array, rng: np.random.Generator) -> Array:
    marked = film.copy()
    marked[: film.shape[0] // 10, : film.shape[1] // 6] = 65535
    return marked


def pad(film: Array, rng: np.random.Generator) -> Array:
    width = film.shape[1] // 20
    return np.pad(film, ((0, 0), (width, width)))


TRANSFORMS: dict[str, Transform] = {
    "gamma 0.56-1.8": gamma,
    "JPEG quality 20-59": jpeg,
    "window 5-95 %": window,
    "inversion": lambda film, rng: 65535 - film,
    "crop 3 % of one side": one_side,
    "crop 0-3 % of each side": lambda film, rng: crop(film, *rng.uniform(0, 0.03, 4)),
    "crop 3 % of all sides": lambda film, rng: crop(film, 0.03, 0.03, 0.03, 0.03),
    "crop + gamma + inversion + JPEG": lambda film, rng: jpeg(
        65535 - gamma(crop(film, *rng.uniform(0, 0.03, 4)), rng), rng
    ),
    "rotation 2 degrees": rotate,
    "crop 5 % of all sides": lambda film, rng: crop(film, 0.05, 0.05, 0.05, 0.05),
    "white box in a corner": marker,
    "black borders 5 % left and right": pad,
    "mirrored left to right": lambda film, rng: film[:, ::-1],
}


def thumb_of(job: tuple[Path, str | None, int]) -> Array:
    path, name, seed = job
    pixels = read_film(path).pixels
    if name is None:
        return make_thumb(pixels)
    changed = TRANSFORMS[name](pixels.astype(np.float64), stream(seed, name, path.name))
    return make_thumb(np.clip(changed, 0, 65535).round().astype(np.uint16))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parents[2] / "shared/data/chest")
    parser.add_argument("--films", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with open(options.folder / "manifest.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    paths = [options.folder / row["image"] for row in rows]
    patients = np.array([row["patient_id"] for row in rows])
    with ProcessPoolExecutor() as pool:
        thumbs = np.stack(list(pool.map(thumb_of, ((p, None, 0) for p in paths), chunksize=32)))
        false_pairs(thumbs, patients)
        chosen = stream(options.seed, "films").choice(len(rows), min(options.films, len(rows)), replace=False)
        for name in TRANSFORMS:
            jobs = ((paths[i], name, options.seed) for i in chosen)
            recall(name, thumbs, np.stack(list(pool.map(thumb_of, jobs, chunksize=16))), chosen)


def false_pairs(thumbs: Array, patients: Array) -> None:
    started = time.perf_counter()
    first, second, _, _ = near_pairs(thumbs)
    elapsed = time.perf_counter() - started
    other = patients[first] != patients[second]
    pairs = len(thumbs) * (len(thumbs) - 1) // 2
    print(f"{len(thumbs)} films, {pairs:,} pairs, compared in {elapsed:.1f} s")
    print(f"copies within a patient: {int((~other).sum())}; false pairs (different patients): {int(other.sum())}")
    looser = DuplicateConfig(coarse=0.65, similarity=0.0)
    a, b, similarity, _ = near_pairs(thumbs, looser)
    print(f"largest similarity of different patients: {similarity[patients[a] != patients[b]].max():.3f}")
    print(f"{'transform':34s} recall  2nd percentile of similarity")


def recall(name: str, thumbs: Array, changed: Array, chosen: Array) -> None:
    """A changed film is found when it pairs with its original in the set of all films and all changed ones."""
    together = np.concatenate([thumbs, changed])
    first, second, _, _ = near_pairs(together)
    found = set(itertools.chain(zip(first.tolist(), second.tolist(), strict=True)))
    hits = [(int(i), len(thumbs) + at) in found for at, i in enumerate(chosen)]
    views = coarse_view(together)
    a, b = views[chosen], views[len(thumbs) :]
    negative = (a * b).mean(axis=(1, 2)) < 0
    _, similarity = judge(thumbs[chosen], changed, negative, DuplicateConfig(coarse=-1.0), coarse=(a, b))
    print(f"{name:34s} {np.mean(hits):.3f}   {np.quantile(similarity, 0.02):.2f}", flush=True)


if __name__ == "__main__":
    main()
