"""Films with a part taken away or changed, for audits: what can still be read from them, and does the answer move?

A region is the same for all films of a cohort, so that its shape can't tell one film from another: were each film's
own lungs blacked out, the outline of the hole would tell a sick lung from a healthy one. Maguolo and Nanni 2021
("A critic evaluation of methods for COVID-19 automatic detection from X-ray images", Inf Fusion 76:1) blacked out a
fixed centre; here it is wherever a lung lies in more than a few of the films.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from hilum.arrays import Array, Mask, Tiles
from hilum.errors import UsageError
from hilum.imaging.lungs import lung_fields
from hilum.imaging.preprocessing import area_average

LUNGS_ASKED = 400
"""Films whose lungs are looked for, evenly along the cohort: more would not move the region."""

RARE = 0.05
"""A pixel is lung region when it is lung in more than this share of the films."""

BORDER = 0.1
"""Width of the border, as a share of a side."""

CORNER = 0.22
"""Side of a corner, as a share of the film's: where laterality letters and burned-in text stand."""


def lung_region(tiles: Tiles) -> Mask:
    """Where lungs lie in a cohort: the pixels that are lung in more than :data:`RARE` of the films, and a margin.

    Args:
        tiles: [n, h, w], at least one.
    """
    asked = tiles[np.unique(np.linspace(0, len(tiles) - 1, LUNGS_ASKED).round().astype(np.int64))]
    share = np.mean([lung_fields(tile) for tile in asked], axis=0)
    margin = max(1, round(0.02 * tiles.shape[1]))
    region: Mask = ndimage.maximum_filter(share > RARE, 2 * margin + 1)
    return region


def box_around(region: Mask) -> Mask:
    """The smallest upright box that holds a region; empty for an empty one."""
    box = np.zeros_like(region)
    if region.any():
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def blacked_out(tiles: Tiles, region: Mask) -> Tiles:
    """Films with a region black."""
    return np.where(region, np.uint8(0), tiles)


def border(side: tuple[int, int]) -> Mask:
    """The outer frame of a film."""
    height, width = side
    frame = np.ones(side, dtype=bool)
    high, wide = max(1, round(BORDER * height)), max(1, round(BORDER * width))
    frame[high : height - high, wide : width - wide] = False
    return frame


def corners(side: tuple[int, int]) -> Mask:
    """The four corners of a film."""
    height, width = side
    high, wide = max(1, round(CORNER * height)), max(1, round(CORNER * width))
    mask = np.zeros(side, dtype=bool)
    for rows in (slice(0, high), slice(height - high, height)):
        for columns in (slice(0, wide), slice(width - wide, width)):
            mask[rows, columns] = True
    return mask


def corner_mosaic(tiles: Tiles, hidden: Mask) -> Tiles:
    """The four corners, enlarged to fill the film, so that a network sees their letters as large as it can.

    Args:
        tiles: [n, h, w].
        hidden: what is black beforehand, such as the lung region.
    """
    count, height, width = tiles.shape
    high, wide = max(1, round(CORNER * height)), max(1, round(CORNER * width))
    shown = blacked_out(tiles, hidden)
    top = np.concatenate([shown[:, :high, :wide], shown[:, :high, width - wide :]], axis=2)
    bottom = np.concatenate([shown[:, height - high :, :wide], shown[:, height - high :, width - wide :]], axis=2)
    made = np.empty((count, height, width), dtype=np.uint8)
    for row, mosaic in enumerate(np.concatenate([top, bottom], axis=1)):
        made[row] = np.asarray(Image.fromarray(mosaic).resize((width, height), Image.Resampling.BILINEAR))
    return made


def corners_covered(tiles: Tiles) -> Tiles:
    """Films whose corners are smoothed until no letter is left: what is bright and small goes, the rest stays."""
    where = corners(tiles.shape[1:])
    reach = max(3, 2 * round(0.05 * tiles.shape[1]) + 1)
    return np.where(where, _without_small_bright(tiles, reach), tiles)


def corners_worn(tiles: Tiles, donors: Tiles) -> Tiles:
    """Films that wear the corners of others, film by film."""
    return np.where(corners(tiles.shape[1:]), donors, tiles)


def text(tiles: Tiles, lungs: Mask) -> Array:
    """Where a film has what looks like burned-in text or a lead marker, bool [n, h, w].

    Small, nearly white strokes on a darker ground (a white top-hat), outside the lung region, where ribs and vessels
    look alike.
    """
    reach = max(3, 2 * round(0.03 * tiles.shape[1]) + 1)
    hat = tiles.astype(np.int16) - _without_small_bright(tiles, reach)
    strokes = (hat > 60) & (tiles > 150) & ~lungs
    margin = max(1, round(0.01 * tiles.shape[1]))
    around: Array = ndimage.maximum_filter(strokes, (1, 2 * margin + 1, 2 * margin + 1))
    return around


def text_covered(tiles: Tiles, where: Array) -> Tiles:
    """Films without what :func:`text` found."""
    reach = max(3, 2 * round(0.05 * tiles.shape[1]) + 1)
    return np.where(where, _without_small_bright(tiles, reach), tiles)


def _without_small_bright(tiles: Tiles, reach: int) -> Tiles:
    opened: Tiles = ndimage.grey_opening(tiles, (1, reach, reach))
    return opened


def with_gamma(tiles: Tiles, gamma: float) -> Tiles:
    """Films shown with another contrast curve; above 1 is darker."""
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    shown: Tiles = table[tiles]
    return shown


def cropped(tiles: Tiles, share: float) -> Tiles:
    """Films without a border of this share on each side, brought back to their size."""
    height, width = tiles.shape[1:]
    box = (share * width, share * height, (1 - share) * width, (1 - share) * height)
    return _each(tiles, lambda picture: picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


def coarser(tiles: Tiles, factor: float) -> Tiles:
    """Films averaged to a coarser grid and brought back to their size."""
    if factor < 1:
        raise UsageError(f"factor is {factor}, but a coarser film needs 1 or more. Give how often fewer pixels a side.")
    height, width = tiles.shape[1:]
    small = (max(1, round(height / factor)), max(1, round(width / factor)))
    made = np.empty_like(tiles)
    for row, tile in enumerate(tiles):
        less = np.rint(area_average(tile, *small)).clip(0, 255).astype(np.uint8)
        made[row] = np.asarray(Image.fromarray(less).resize((width, height), Image.Resampling.BILINEAR))
    return made


def as_jpeg(tiles: Tiles, quality: int) -> Tiles:
    """Films that went through a lossy JPEG of this quality, 1 … 95."""

    def through(picture: Image.Image) -> Image.Image:
        kept = io.BytesIO()
        picture.save(kept, format="JPEG", quality=quality)
        return Image.open(kept)

    return _each(tiles, through)


def _each(tiles: Tiles, change: Callable[[Image.Image], Image.Image]) -> Tiles:
    made = np.empty_like(tiles)
    for row, tile in enumerate(tiles):
        made[row] = np.asarray(change(Image.fromarray(tile)))
    return made
