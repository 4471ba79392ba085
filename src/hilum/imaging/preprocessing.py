"""The one preprocessing function: training and service both call it, so they can't drift apart.

A film is brought to a square tile in two steps: **area averaging** with exact weights (each tile pixel is the mean of
the film's area under it, pixels on its border counted by the fraction inside) and then a stretch of the grey values.

The averaging is done in whole numbers, so its result doesn't depend on the processor, on the number of threads or on
the order of summation. Rows are summed first, straight from the film's uint16 values: the film is read once and never
copied as floats.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from hilum.arrays import Array, Heatmap, Pixels, Tile
from hilum.errors import ConfigError, UsageError
from hilum.imaging.beside import beside
from hilum.imaging.percentiles import percentiles

FEW = 8
"""Most rows, or columns, of a film under one of a grid that are taken one after the other from all cells at once."""

AT_ONCE = 32
"""Cut rows that are weighted at once: few enough to stay in the processor's cache."""

LARGE, LONG_CALL = 1 << 22, 1 << 17
"""Pixels of a film whose rows are summed by two threads, and of one call from which they don't wait for each other."""

VERSION = 1
"""Raised whenever the same film and config would give another tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a film becomes a tile; travels in every bundle.

    Raises:
        ConfigError: a field is out of range; all of them are reported at once.
    """

    size: int = 224
    """Height and width of the tile in pixels."""
    resize: Literal["stretch", "crop", "letterbox"] = "stretch"
    """"stretch" ignores the film's proportions, "crop" takes its central square, "letterbox" adds black borders."""
    intensity: Literal["percentile", "minmax", "none"] = "percentile"
    """"percentile" and "minmax" stretch the tile's own grey values to 0 … 255; "none" keeps the film's."""
    low_percent: float = 0.5
    """Percentile of the averaged values that becomes black; for "percentile" alone."""
    high_percent: float = 99.5
    """Percentile of the averaged values that becomes white; for "percentile" alone."""
    decoding: Literal["full", "reduced"] = "full"
    """"reduced" lets JPEG and JPEG 2000 be decoded at the size that the tile needs, where that changes little; see
    `hilum.imaging.reduced_reading`."""
    version: int = VERSION
    """Version of the function; another version than this package's is refused."""

    def __post_init__(self) -> None:
        problems = []
        if not 8 <= self.size <= 4096:
            problems.append(f"Preprocessing.size is {self.size}, but must be from 8 to 4096 pixels.")
        if self.resize not in ("stretch", "crop", "letterbox"):
            problems.append(f"Preprocessing.resize is {self.resize!r}. Known: stretch, crop, letterbox.")
        if self.intensity not in ("percentile", "minmax", "none"):
            problems.append(f"Preprocessing.intensity is {self.intensity!r}. Known: percentile, minmax, none.")
        if self.decoding not in ("full", "reduced"):
            problems.append(f"Preprocessing.decoding is {self.decoding!r}. Known: full, reduced.")
        if not 0 <= self.low_percent < self.high_percent <= 100:
            problems.append(
                f"Preprocessing.low_percent and high_percent are {self.low_percent} and {self.high_percent}, but must "
                "rise within 0 … 100."
            )
        if self.version != VERSION:
            problems.append(
                f"Preprocessing.version is {self.version}, but this package has version {VERSION}. Use the hilum "
                "release that made the bundle, or make the bundle again."
            )
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Which part of a film fills which part of the tile; all in pixels."""

    top: int
    """First row of the film's part."""
    left: int
    """First column of the film's part."""
    height: int
    """Rows of the film's part."""
    width: int
    """Columns of the film's part."""
    tile_top: int
    """First row of the tile's part."""
    tile_left: int
    """First column of the tile's part."""
    tile_height: int
    """Rows of the tile's part."""
    tile_width: int
    """Columns of the tile's part."""


def geometry(film_shape: tuple[int, int], config: Preprocessing) -> Geometry:
    """Where a film of this height and width goes on the tile.

    Raises:
        UsageError: the film has no pixels.
    """
    height, width = film_shape
    if height < 1 or width < 1:
        raise UsageError(f"A film of {height} × {width} pixels can't be preprocessed; it needs at least one.")
    size, top, left, tile_height, tile_width = config.size, 0, 0, config.size, config.size
    if config.resize == "crop":
        side = min(height, width)
        top, left, height, width = (height - side) // 2, (width - side) // 2, side, side
    elif config.resize == "letterbox":
        longest = max(height, width)
        # Half up in whole numbers: the same on every platform.
        tile_height = max(1, (2 * size * height + longest) // (2 * longest))
        tile_width = max(1, (2 * size * width + longest) // (2 * longest))
    return Geometry(
        top=top,
        left=left,
        height=height,
        width=width,
        tile_top=(size - tile_height) // 2,
        tile_left=(size - tile_width) // 2,
        tile_height=tile_height,
        tile_width=tile_width,
    )


def preprocess(pixels: Pixels, config: Preprocessing) -> Tile:
    """Turn a film into the tile that a network sees.

    Args:
        pixels: uint16 [h, w], 0 black … 65535 white.
        config: the parameters.

    Returns:
        uint8 [size, size], 0 black … 255 white. A film of a single grey value keeps it, whatever the intensity mode.

    Raises:
        UsageError: the pixels are not uint16 [h, w], or there are none.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise UsageError(f"Pixels must be uint16 [h, w], but are {pixels.dtype} {list(pixels.shape)}. Use read_film.")
    height, width = pixels.shape
    where = geometry((height, width), config)
    part = pixels[where.top : where.top + where.height, where.left : where.left + where.width]
    return tile_from_averages(area_average(part, where.tile_height, where.tile_width), where, config)


def tile_from_averages(averaged: Array, where: Geometry, config: Preprocessing) -> Tile:
    """Stretch averaged grey values and put them on the tile.

    Args:
        averaged: float64 [where.tile_height, where.tile_width], 0 black … 65535 white.
        where: from `geometry`.
        config: the parameters.

    Returns:
        uint8 [size, size], 0 black … 255 white.
    """
    tile = np.zeros((config.size, config.size), np.uint8)
    rows = slice(where.tile_top, where.tile_top + where.tile_height)
    columns = slice(where.tile_left, where.tile_left + where.tile_width)
    tile[rows, columns] = _to_bytes(averaged, config)
    return tile


def area_average(pixels: Array, height: int, width: int) -> Array:
    """Average a picture over the areas of a coarser (or finer) grid, exactly.

    Args:
        pixels: uint8 or uint16 [h, w].
        height: rows of the grid.
        width: columns of the grid.

    Returns:
        float64 [height, width], in units of the pixels: each an exact sum in whole numbers, divided once.
    """
    rows, columns = pixels.shape
    if rows % height == 0 and columns % width == 0 and columns // width <= FEW:
        return _sum_blocks(pixels, height, width) / float(rows // height * (columns // width))
    return _sum_columns(_sum_rows(pixels, height), width, 65535 * rows) / (float(rows) * float(columns))


def _sum_blocks(pixels: Array, height: int, width: int) -> Array:
    """Sums of whole pixels under each cell, where no cell's edge cuts one: [height, width].

    The quotient by the area is the same number as that of the weighted sums: both are exact and rounded once.
    """
    across = pixels.shape[1] // width
    rows = _whole_rows(pixels, _edges(len(pixels), height)[0], _kind_for(len(pixels) // height * across))
    sums: Array = rows[:, ::across].copy()
    for first in range(1, across):
        sums += rows[:, first::across]
    return sums


def _kind_for(pixels: int) -> type:
    # The sum of so many is at most 65535 · pixels. Differences may wrap on the way, which modular arithmetic undoes.
    return np.uint32 if pixels <= 65536 else np.uint64


def _edges(pixels: int, cells: int) -> tuple[Array, Array]:
    """For each of cells + 1 edges the pixel that it falls into, and how much of that pixel, in 1/cells, lies before."""
    at = np.arange(cells + 1, dtype=np.int64) * pixels
    return at // cells, at % cells


def _sum_rows(pixels: Array, height: int) -> Array:
    """Rows summed under each row of the grid, weighted in 1/height of a row: whole numbers [height, columns].

    A cell from edge a to edge b is `height` × (sum of the rows from a's to before b's) + the part of b's row that lies
    before b − the part of a's row that lies before a.
    """
    kind = _kind_for(len(pixels))
    row, part = _edges(len(pixels), height)
    sums = _whole_rows(pixels, row, kind)
    sums *= kind(height)
    for first in range(1, height, AT_ONCE):
        edges = slice(first, min(first + AT_ONCE, height))
        partial = pixels[row[edges]] * part[edges, None].astype(kind)
        sums[edges.start - 1 : edges.stop - 1] += partial
        sums[edges] -= partial
    return sums


def _whole_rows(pixels: Array, row: Array, kind: type) -> Array:
    """Sum of the rows from each edge to before the next: [cells, columns] of a kind that holds it."""
    cells = len(row) - 1
    alike = math.gcd(len(pixels), cells)
    least = len(pixels) // cells
    if alike == 1 and 1 <= least <= FEW:
        # The first rows of all cells at once, then the second ones: fewer calls than cell by cell.
        sums: Array = pixels[row[:-1]].astype(kind)
        for step in range(1, least):
            sums += pixels[row[:-1] + step]
        longer = np.flatnonzero(np.diff(row) > least)
        sums[longer] += pixels[row[longer] + least]
        return sums
    # Edges lie alike in each of so many equal parts of the film, whose cells are summed at once.
    parts = pixels.reshape(alike, len(pixels) // alike, pixels.shape[1])
    sums = np.empty((alike, cells // alike, pixels.shape[1]), kind)

    def add(some: range) -> None:
        for i in some:
            np.add.reduce(parts[:, row[i] : row[i + 1]], axis=1, dtype=kind, out=sums[:, i])

    calls = cells // alike
    large = pixels.size >= LARGE and pixels.size // calls >= LONG_CALL
    beside(lambda: add(range(calls // 2)), lambda: add(range(calls // 2, calls)), worth_it=large)
    return sums.reshape(cells, pixels.shape[1])


def _sum_columns(sums: Array, width: int, most: int) -> Array:
    """Columns summed under each column of the grid, as `_sum_rows` does: whole numbers, float64 [height, width].

    Weighted sums are whole numbers far below 2^53, so that float64, which a processor multiplies several at a time,
    holds them exactly, in whatever order they are added. Where the grid's edges lie alike in many equal parts of a row,
    a part is a product with a small matrix of weights; else columns are turned into rows first, since whole rows are
    added several numbers at a time.

    Args:
        sums: whole numbers [height, columns].
        width: columns of the grid.
        most: none of them is larger.
    """
    height, columns = sums.shape
    alike = math.gcd(columns, width)
    if 1 < width // alike <= FEW < columns // alike:
        parts = sums.reshape(height * alike, columns // alike).astype(np.float64)
        return np.asarray(parts @ _weights(columns // alike, width // alike) * float(alike)).reshape(height, width)
    turned = np.ascontiguousarray(sums.T)
    column, part = _edges(len(turned), width)
    kind = np.uint32 if most * (len(turned) // width + 1) < 1 << 32 else np.uint64
    within: Array = _whole_rows(turned, column, kind) * float(width)
    partial = turned[column[1:-1]] * part[1:-1, None].astype(np.float64)
    within[:-1] += partial
    within[1:] -= partial
    return np.ascontiguousarray(within.T)


@lru_cache(maxsize=16)
def _weights(pixels: int, cells: int) -> Array:
    """How much of each pixel lies in each of so many cells over all of them, in 1/cells: float64 [pixels, cells]."""
    edges = np.arange(cells + 1) * pixels
    starts = np.arange(pixels)[:, None] * cells
    weights: Array = np.minimum(starts + cells, edges[1:]) - np.maximum(starts, edges[:-1])
    weights = weights.clip(0).astype(np.float64)
    weights.setflags(write=False)
    return weights


def _to_bytes(averaged: Array, config: Preprocessing) -> Tile:
    low, high = 0.0, 65535.0
    if config.intensity == "percentile":
        low, high = percentiles(averaged, (config.low_percent, config.high_percent))
    elif config.intensity == "minmax":
        low, high = float(averaged.min()), float(averaged.max())
    if high <= low:
        low, high = 0.0, 65535.0
    scaled = (averaged - low) * (255.0 / (high - low))
    # Half up: what is not negative is cut off to the whole number below.
    tile: Tile = (np.clip(scaled, 0.0, 255.0) + 0.5).astype(np.uint8)
    return tile


def heatmap_on_film(heatmap: Heatmap, film_shape: tuple[int, int], config: Preprocessing) -> Array:
    """Lay a heat map over the film that its tile was made from.

    Args:
        heatmap: float [h, w] that covers the whole tile, of any resolution.
        film_shape: height and width of the film.
        config: how the tile was made.

    Returns:
        float32 [H, W] of the film's size, bilinear between the centres of the heat map's cells and constant beyond the
        outermost; 0 where the tile didn't look.
    """
    where = geometry(film_shape, config)
    rows = _taps(where.height, where.tile_top, where.tile_height, config.size, heatmap.shape[0])
    columns = _taps(where.width, where.tile_left, where.tile_width, config.size, heatmap.shape[1])
    source = heatmap.astype(np.float32)
    across = source[:, columns[0]] * (1 - columns[2]) + source[:, columns[1]] * columns[2]
    film = np.zeros(film_shape, np.float32)
    part = film[where.top : where.top + where.height, where.left : where.left + where.width]
    for start in range(0, where.height, 64):  # a strip at a time stays in the processor's cache
        strip = slice(start, start + 64)
        weight = rows[2][strip, None]
        np.multiply(across[rows[0][strip]], 1 - weight, out=part[strip])
        part[strip] += across[rows[1][strip]] * weight
    return film


@lru_cache(maxsize=16)
def _taps(length: int, start: int, extent: int, size: int, cells: int) -> tuple[Array, Array, Array]:
    """For each pixel of the film its two neighbouring cells and the second's weight, pixel centres aligned."""
    on_tile = start + (np.arange(length) + 0.5) * (extent / length)
    at = np.clip(on_tile * (cells / size) - 0.5, 0, cells - 1)
    first = np.floor(at).astype(np.intp)
    second = np.minimum(first + 1, cells - 1)
    taps = first, second, (at - first).astype(np.float32)
    for one in taps:
        one.setflags(write=False)
    return taps
