"""Heat maps on films: one colour scale for all films of a bundle, so that the same colour means the same."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.arrays import Array, Pixels, Tile
from hilum.arrays import Heatmap as Activation
from hilum.files import write_bytes
from hilum.imaging.colour_bar import with_colour_bar
from hilum.imaging.overlay import CAPTION, jpeg, overlay, png
from hilum.imaging.preprocessing import Preprocessing, heatmap_on_film
from hilum.imaging.radiograph import Radiograph

UNIT = "logit"
"""Unit of a heat map: how much of the logit a pixel of the feature map gives."""

_PICTURE = 224
"""Longer side, in pixels, of a picture that is drawn without the film itself; that of the tile where it is larger.
Beyond the tile there is nothing to show, and packing pixels is most of what a picture costs; words need some room."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heatmap:
    """Where the evidence for one finding lies, as the graph gave it.

    Attributes:
        finding: the finding that it explains.
        values: float32 [h, w] ≥ 0, in units of logit.
        spread: float32 [h, w], its standard deviation under dropout.
        top: activation that is shown as full heat; fixed for the bundle.
        tile: what the model saw.
        film_shape: height and width of the film.
        preprocessing: how the film became the tile; its inverse brings the map back.
        film: presentation values, when they are still at hand.
    """

    finding: str
    values: Activation
    spread: Activation
    top: float
    tile: Tile
    film_shape: tuple[int, int]
    preprocessing: Preprocessing
    film: Pixels | None = None

    def on_film(self, film: Radiograph | Pixels | None = None, *, style: str = "heat", bar: bool = False) -> Array:
        """The film with the map over it.

        Args:
            film: the film that was assessed; None: the one at hand, or else a picture of what the model saw, brought
                back to the film's proportions.
            style: ``heat`` or ``contour``.
            bar: whether the scale of the colours stands to the right of it.

        Returns:
            uint8 [h, w, 3], with a caption that says it is not for diagnosis.
        """
        pixels = film.pixels if isinstance(film, Radiograph) else film
        pixels = self.film if pixels is None else pixels
        picture = self.picture() if pixels is None else pixels
        shape = (int(picture.shape[0]), int(picture.shape[1]))
        heat = heatmap_on_film(self.values, shape, self.preprocessing)
        drawn = overlay(picture, heat, top=self.top, style=style, caption=CAPTION)
        return with_colour_bar(drawn, top=self.top, unit=UNIT, style=style) if bar else drawn

    def png(self, film: Radiograph | Pixels | None = None, *, style: str = "heat", bar: bool = False) -> bytes:
        """The same as a PNG file's bytes."""
        return png(self.on_film(film, style=style, bar=bar))

    def jpeg(self, film: Radiograph | Pixels | None = None, *, style: str = "heat", bar: bool = False) -> bytes:
        """The same as a JPEG file's bytes: not to the last grey value, and made and stored for a fraction."""
        return jpeg(self.on_film(film, style=style, bar=bar))

    def save(self, path: Path | str, film: Radiograph | Pixels | None = None, *, style: str = "heat") -> Path:
        """Write the same as a PNG, atomically; returns the path."""
        write_bytes(Path(path), self.png(film, style=style))
        return Path(path)

    def picture(self) -> Tile:
        """What the model saw, in the film's proportions."""
        rows, columns = self.film_shape
        scale = min(1.0, max(_PICTURE, len(self.tile)) / max(rows, columns))
        shape = (max(1, round(rows * scale)), max(1, round(columns * scale)))
        if shape == self.tile.shape and self.preprocessing.resize == "stretch":
            return self.tile  # pixel for pixel what would come out
        grey = heatmap_on_film(self.tile.astype(np.float32), shape, self.preprocessing)
        picture: Tile = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
        return picture
