"""Pictures of films and heat maps; these functions run in a sandboxed child, because films are foreign files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hilum.arrays import Array, Heatmap, Pixels
from hilum.config import from_mapping
from hilum.imaging.overlay import CAPTION, FULL_OPACITY_FROM, colour_scale, grey_png, overlay, png, shrink
from hilum.imaging.preprocessing import Preprocessing, heatmap_on_film
from hilum.imaging.reading import read_film

LONGEST_SIDE = 1024


def warm() -> None:
    """Do nothing; a child that answers has imported everything."""


def draw_film(path: Path) -> bytes:
    """A film as a grey PNG, at most :data:`LONGEST_SIDE` pixels long.

    Raises:
        FilmError: it can't be read.
    """
    return grey_png(_reduced(path))


def draw_heatmap(path: Path, values: Heatmap, preprocessing: Mapping[str, Any], top: float, layer: bool) -> bytes:
    """A heat map over its film, or alone and transparent where it is zero, as a PNG.

    Args:
        path: the film.
        values: float32 [h, w] ≥ 0, in units of logit.
        preprocessing: how the film became the model's tile.
        top: activation that is shown as full heat.
        layer: the heat map alone.

    Raises:
        FilmError: the film can't be read.
    """
    film = _reduced(path)
    shape = (int(film.shape[0]), int(film.shape[1]))
    heat = heatmap_on_film(values, shape, from_mapping(Preprocessing, preprocessing, where="assessment"))
    if not layer:
        return png(overlay(film, heat, top=top, caption=CAPTION))
    return _layer(heat, top)


def _reduced(path: Path) -> Pixels:
    return shrink(read_film(path).pixels, LONGEST_SIDE)


def _layer(heat: Array, top: float) -> bytes:
    """Colours at full strength, their alpha growing with the heat as the overlay's opacity does."""
    share = np.clip(np.nan_to_num(heat) / top, 0.0, 1.0)
    steps = (share * 255 + 0.5).astype(np.uint8)
    alpha = (np.clip(share / FULL_OPACITY_FROM, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([colour_scale()[steps], alpha])).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
