"""What `frontal_fit` tells apart: frontal films from turned and halved ones and from photographs turned grey.

    .venv/bin/python benchmarks/frontal_fit.py [--data ../shared/data] [--every 3]

The default limit of the gate was chosen on every fourth real film; those are left out here. Lateral films and other
body parts are not at hand, so what the fit says of them is not measured: half a film, which shows one lung, stands in
for a lateral, and photographs stand in for everything else.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from hilum.arrays import Pixels
from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.quality import measure_quality
from hilum.imaging.reading import read_film


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--every", type=int, default=3, help="take every nth film and photograph")
    parser.add_argument("--phantoms", type=int, default=60)
    given = parser.parse_args()
    paths = sorted((given.data / "chest/images").glob("*.jpg"))
    films = [read_film(path).pixels for at, path in enumerate(paths) if at % 4][:: given.every]
    sets: dict[str, list[Pixels]] = {"real frontal films": films}
    sets["the same, turned by 90°"] = [np.ascontiguousarray(np.rot90(film)) for film in films]
    sets["the same, upside down"] = [np.ascontiguousarray(film[::-1]) for film in films]
    sets["the same, one half"] = [np.ascontiguousarray(film[:, : film.shape[1] // 2]) for film in films]
    sets["the same, inverted"] = [65535 - film for film in films]
    for name in ("flowers", "ants_bees"):
        found = sorted((given.data / name).rglob("*.jpg"))[:: given.every * 5]
        sets[f"photographs ({name})"] = [read_film(path).pixels for path in found]
    config = PhantomConfig(patients=given.phantoms, size=256, second_film_share=0, seed=7)
    sets["phantoms (synthetic)"] = [
        (render(plan).pixels.clip(0, 1) * 65535).astype(np.uint16) for plan in plan_cohort(config)
    ]
    limit = GatePolicy().minimum_frontal_fit
    print(f"| pictures | n | median fit | 5th–95th percentile | below {limit:.2f}: unknown |")
    print("|---|---|---|---|---|")
    for name, pictures in sets.items():
        fits = np.array([measure_quality(picture).frontal_fit for picture in pictures])
        low, middle, high = np.quantile(fits, (0.05, 0.5, 0.95))
        print(f"| {name} | {len(fits)} | {middle:.2f} | {low:.2f}–{high:.2f} | {np.mean(fits < limit):.1%} |")
    started = time.process_time()
    for film in films[:50]:
        measure_quality(film)
    print(
        f"\n{1000 * (time.process_time() - started) / 50:.1f} ms of processor time a film for all measures of quality."
    )


if __name__ == "__main__":
    main()
