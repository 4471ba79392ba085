"""Phantoms with drawn lines (markers with frames, tubes, wires) and a film's grain, as films: all synthetic."""

import functools

import numpy as np

from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.imaging.dicom_writing import FilmHeader, film_bytes

COUNT = 24


@functools.cache
def plans(side):
    return plan_cohort(PhantomConfig(patients=COUNT, size=side, second_film_share=0, seed=3))


def stored_values(number, bits, side=1024):
    """A phantom with the grain of a film, in stored values that fill the window."""
    pixels = np.clip(render(plans(side)[number]).pixels, 0, 1)
    grain = np.random.default_rng(number).normal(0, 0.01, pixels.shape)
    stored = (pixels + grain).clip(0, 1) * ((1 << bits) - 1)
    return stored.astype(np.uint16 if bits == 12 else np.uint8)


def as_film(stored, syntax, **header):
    """A film's file, with a window over all its values."""
    bits = 8 if stored.itemsize == 1 else 12
    given = {"bits_stored": bits, "window": (1 << (bits - 1), 1 << bits), "age_years": 50.0, **header}
    return film_bytes(stored, FilmHeader(**given), transfer_syntax=syntax)[0]


def large_enough(syntax):
    """Numbers of the phantoms that are decoded at reduced size: JPEG 2000 from 1,024 pixels on."""
    return [at for at in range(COUNT) if syntax == "jpeg" or min(render(plans(1024)[at]).pixels.shape) >= 1024]
