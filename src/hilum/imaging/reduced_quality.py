"""Measures of quality by a reduced film, where they can't mislead the intended-use gate.

A reduced film has been averaged before it is measured. Measures of the averaged picture hardly differ; what is counted
on single pixels does: noise that was averaged away spreads grey values over fewer levels, and a pixel that was clipped
among others that weren't is black or white no more. `APART` says by how much, and
``tests/imaging/test_reduced_quality.py`` holds phantoms to it.

No film is refused by what a reduced one shows: where a measure lies beyond one of the gate's limits, or as near to it
as it may differ, the film is decoded and measured whole.
"""

import dataclasses

import numpy as np

from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.quality import GRID, Quality, averaged_picture, measures
from hilum.imaging.reduced_reading import ReducedFilm

APART = {
    "contrast": 0.04,
    "mean": 0.002,
    "black_share": 0.02,
    "white_share": 0.02,
    "clipped_black": 0.1,
    "clipped_white": 0.1,
    "entropy_bits": 0.4,
    "sharpness": 0.003,
    "structure": 0.01,
    "frontal_fit": 0.02,
}
"""Most that a measure of a reduced film differs from that of the whole one. A marker's rim can lie on either side of a
percentile or of a limit of grey; it is most of what contrast and the shares differ by."""

LEAST = 2 * GRID
"""Fewest rows and columns of a reduced film that is measured: each cell of the averaged picture has four pixels then.
Where it has a single one, sharpness differs by half."""

GREY = 0.005
"""Cells this near to black's or white's limit, as a share of black to white, count as beyond it here."""


def reduced_quality(film: ReducedFilm, policy: GatePolicy) -> Quality | None:
    """Measure a reduced film.

    Args:
        film: the film.
        policy: the gate that will ask.

    Returns:
        Its measures, with the whole film's height and width; ``None`` where the whole film has to be measured, because
        the gate might answer otherwise, or because there are fewer pixels than the averaged picture is to have.
    """
    if min(film.pixels.shape) < LEAST:
        return None
    grid = averaged_picture(film.pixels)
    height, width = film.shape
    found = dataclasses.replace(measures(grid, film.pixels), height=height, width=width)
    averaged = grid / 65535.0
    flat = max(float(np.mean(averaged <= 0.01 + GREY)), float(np.mean(averaged >= 0.99 - GREY)))
    plain = (
        flat + APART["black_share"] <= policy.maximum_flat_share
        and found.contrast - APART["contrast"] >= policy.minimum_contrast
        and found.structure - APART["structure"] >= policy.minimum_structure
        and abs(found.frontal_fit - policy.minimum_frontal_fit) >= APART["frontal_fit"]
    )
    return found if plain else None
