"""How well the lung fields are found on phantoms, whose lungs are known: Dice, and how much of lung and lesion is lost.

    .venv/bin/python benchmarks/lung_fields.py [--patients 120] [--size 256] [--seed 7]

The films are synthetic, so the numbers say that the method works on such films; on real ones it was looked at, not
measured. Constants of ``imaging/lungs.py`` were chosen on seeds 0 and 1.
"""

import argparse
import time

import numpy as np

from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.imaging.lungs import lung_fields


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    config = PhantomConfig(patients=given.patients, size=given.size, second_film_share=0, seed=given.seed)
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    spent = 0.0
    for plan in plan_cohort(config):
        film = render(plan)
        started = time.process_time()
        found = lung_fields((film.pixels.clip(0, 1) * 65535).astype(np.uint16))
        spent += time.process_time() - started
        lungs, lesion = film.lungs, film.lesion
        overlap = 2 * (found & lungs).sum() / (found.sum() + lungs.sum())
        lost = (lesion & ~found).sum() / lesion.sum() if lesion.any() else np.nan
        measured = (overlap, (lungs & ~found).sum() / lungs.sum(), (found & ~lungs).sum() / lungs.sum(), lost)
        for name in (plan.label, plan.hospital, "all"):
            rows.setdefault(name, []).append(measured)
    print(f"Synthetic phantoms: {given.patients} films of {given.size} rows, seed {given.seed}.\n")
    print(
        "| films | n | Dice, mean | Dice, worst of 10 | Dice, worst | lung missed | beside the lung | lesion missed |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in sorted(rows, key=lambda name: (name != "all", name)):
        values = np.array(rows[name])
        dice, missed, beside, lost = values.T
        sick = f"{np.nanmean(lost):.3f}" if np.isfinite(lost).any() else "–"
        print(
            f"| {name} | {len(values)} | {dice.mean():.3f} | {np.quantile(dice, 0.1):.3f} | {dice.min():.3f} | "
            f"{missed.mean():.3f} | {beside.mean():.3f} | {sick} |"
        )
    print(f"\n{1000 * spent / given.patients:.0f} ms of processor time a film.")


if __name__ == "__main__":
    main()
