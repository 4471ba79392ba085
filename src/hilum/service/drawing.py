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
from hilum.imaging.viewing import ViewerFilm, read_for_viewing

LONGEST_SIDE = 1024


def warm() -> None:
    """Do nothing; a child that answers has imported everything."""


def draw_film(film: Path | bytes) -> bytes:
    """A film as a grey PNG, at most :data:`LONGEST_SIDE` pixels long.

    Raises:
        FilmError: it can't be read.
    """
    return grey_png(_reduced(film))


def read_pixels(film: Path | bytes) -> ViewerFilm:
    """A film for a viewer that sets its own window.

    Raises:
        FilmError: it can't be read.
    """
    return read_for_viewing(film)


def draw_heatmap(
    source: Path | bytes,
    values: Heatmap,
    preprocessing: Mapping[str, Any],
    top: float,
    layer: bool,
    style: str = "heat",
) -> bytes:
    """A heat map over its film, or alone and transparent where it is zero, as a PNG.

    Args:
        source: the film: its file or its bytes.
        values: float32 [h, w] ≥ 0, in units of logit.
        preprocessing: how the film became the model's tile.
        top: activation that is shown as full heat.
        layer: the heat map alone.
        style: ``heat`` colours areas, ``contour`` draws lines.

    Raises:
        FilmError: the film can't be read.
    """
    film = _reduced(source)
    shape = (int(film.shape[0]), int(film.shape[1]))
    heat = heatmap_on_film(values, shape, from_mapping(Preprocessing, preprocessing, where="assessment"))
    if not layer:
        return png(overlay(film, heat, top=top, caption=CAPTION, style=style))
    return _layer(heat, top) if style == "heat" else _lines(heat, top)


def _reduced(source: Path | bytes) -> Pixels:
    return shrink(read_film(source).pixels, LONGEST_SIDE)


def _layer(heat: Array, top: float) -> bytes:
    """Colours at full strength, their alpha growing with the heat as the overlay's opacity does."""
    share = np.clip(np.nan_to_num(heat) / top, 0.0, 1.0)
    steps = (share * 255 + 0.5).astype(np.uint8)
    alpha = (np.clip(share / FULL_OPACITY_FROM, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return _rgba(np.dstack([colour_scale()[steps], alpha]))


def _lines(heat: Array, top: float) -> bytes:
    """Contours alone, transparent between them: what the overlay draws on black, with black taken away."""
    drawn = overlay(np.zeros(heat.shape, np.uint8), heat, top=top, style="contour")
    alpha = np.where(drawn.any(axis=2), 255, 0).astype(np.uint8)
    return _rgba(np.dstack([drawn, alpha]))


def _rgba(picture: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
