"""Draw a contact sheet of phantom films: one row a finding, with the lesion outlined in the row below it.

    python examples/phantom_gallery.py gallery.png [columns] [pixels]

The films are synthetic: drawn by procedure, no patient. Not for diagnosis.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from hilum.arrays import Array
from hilum.datasets.phantom.cohort import FilmPlan, plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.labels import CHEST


def panels(plan: FilmPlan, side: int) -> Array:
    """The film above the film with its lesion's border in colour: uint8 [2 × side, side, 3]."""
    film = render(plan)
    grey = Image.fromarray((film.pixels * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BOX)
    mask = np.asarray(Image.fromarray(film.lesion).convert("L").resize((side, side))) > 0
    inner = mask.copy()
    for axis in (0, 1):
        inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    plain = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    outlined = plain.copy()
    outlined[mask & ~inner] = (255, 170, 0)
    return np.concatenate([plain, outlined])


def main(out: Path, columns: int = 5, pixels: int = 1024) -> None:
    """Draw the sheet."""
    plans = [plan for plan in plan_cohort(PhantomConfig(patients=12 * columns, size=pixels)) if plan.film == 0]
    side = min(400, pixels)
    rows = [[panels(plan, side) for plan in plans if plan.label == name][:columns] for name in CHEST.names]
    Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows])).save(out)
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:4]))
