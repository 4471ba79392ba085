"""Small synthetic films: gradients with waves, as DICOM bytes, each different."""

from typing import Any

import numpy as np

from hilum.imaging.dicom_writing import FilmHeader, film_bytes

SIDE = 160


def stored(number: int = 0, side: int = SIDE) -> np.ndarray:
    down, across = np.mgrid[0:side, 0:side] / side
    waves = 1500 + 1200 * np.sin(5 * across + number) * np.cos(3 * down) + 800 * down
    noise = np.random.default_rng(number).normal(0, 30, (side, side))
    return (waves + noise).clip(0, 4095).astype(np.uint16)


def film(number: int = 0, **header: Any) -> bytes:
    """An adult's frontal DX film; header fields as given."""
    values: dict[str, Any] = {"patient_id": f"SYN{number}", "age_years": 50.0, "view_position": "PA"} | header
    return film_bytes(stored(number), FilmHeader(**values))[0]


def lateral(number: int = 0) -> bytes:
    return film(number, view_position="LL")
