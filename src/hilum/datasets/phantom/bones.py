"""Ribs, clavicles, shoulder blades and spine, drawn as outlines at half resolution."""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hilum.arrays import Array
from hilum.datasets.phantom.anatomy import SIDES, Body, chest_wall
from hilum.datasets.phantom.frame import Frame

SCAPULA = np.array(
    [(0.16, -0.62), (0.3, -0.56), (0.27, -0.36), (0.1, -0.04), (0.03, 0.08), (-0.01, -0.1), (0.0, -0.42)]
)
"""Outline of a shoulder blade, in patient units from the chest wall outwards and from the centre downwards."""

VERTEBRA = np.array([(-1, -0.4), (1, -0.4), (0.93, 0), (1, 0.4), (-1, 0.4), (-0.93, 0)])
"""Outline of a vertebral body, in half-widths and in steps of the spine."""


class Sheet:
    """A drawing at 1/scale of the film's resolution that becomes a field of 0 … 1."""

    def __init__(self, frame: Frame, scale: int = 2) -> None:
        self.frame, self.scale = frame, scale
        rows, columns = frame.shape(scale)
        self.image = Image.new("L", (columns, rows))
        self.pen = ImageDraw.Draw(self.image)

    def line(self, points: Array, width: float, tone: float) -> None:
        """A line through points [n, 2] of the patient; width in patient units; tone 0 … 1."""
        pixels = max(1, round(self.frame.length(width, self.scale)))
        self.pen.line(self.frame.pixels(points, self.scale), fill=round(255 * tone), width=pixels, joint="curve")

    def lines(self, points: Array, widths: Array, tones: Array) -> None:
        """Many lines of as many points each: points [n, p, 2], widths [n] in patient units, tones [n] in 0 … 1."""
        pixels = self.frame.pixels(points.reshape(-1, 2), self.scale)
        each = points.shape[1]
        thick = np.maximum(1, np.round(self.frame.length(1.0, self.scale) * widths)).astype(int).tolist()
        shades = np.round(255 * tones).astype(int).tolist()
        for i, (width, shade) in enumerate(zip(thick, shades, strict=True)):
            self.pen.line(
                pixels[i * each : (i + 1) * each], fill=shade, width=width, joint="curve" if width > 3 else None
            )

    def area(self, points: Array, tone: float) -> None:
        """A filled outline through points [n, 2] of the patient."""
        self.pen.polygon(self.frame.pixels(points, self.scale), fill=round(255 * tone))

    def disc(self, centre: tuple[float, float], radius: float, tone: float) -> None:
        """A filled disc; at least one pixel across."""
        ((x, y),) = self.frame.pixels(np.array([centre]), self.scale)
        r = max(0.6, self.frame.length(radius, self.scale))
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=round(255 * tone))

    def field(self, soft_units: float = 0.0) -> Array:
        """The drawing as float32 [h, w] in 0 … 1, blurred by a box that reaches soft_units of the patient."""
        image = self.image
        if soft_units > 0:
            image = image.filter(ImageFilter.BoxBlur(max(0.7, self.frame.length(soft_units, self.scale))))
        return np.asarray(image, dtype=np.float32) / np.float32(255)


def _band(sheet: Sheet, centre: Array, half_width: Array, *, fill: float, rim: float) -> None:
    """A flat bone: a filled band between two curves, with cortical rims, the lower one denser."""
    upper = np.stack([centre[:, 0], centre[:, 1] - half_width], axis=1)
    lower = np.stack([centre[:, 0], centre[:, 1] + half_width], axis=1)
    sheet.area(np.concatenate([upper, lower[::-1]]), fill)
    sheet.line(upper, 0.005, rim * 0.75)
    sheet.line(lower, 0.008, rim)


def draw_bones(body: Body, frame: Frame, rng: np.random.Generator) -> Array:
    """Density of all bones, float32 [h, w] at half resolution, about 0 … 0.3."""
    back, front, girdle = Sheet(frame), Sheet(frame), Sheet(frame)
    for side in SIDES:
        for number in range(11):
            _posterior_rib(back, body, side, number, rng)
            if number in range(1, 8):
                _anterior_rib(front, body, side, number, rng)
        _scapula(girdle, body, side, rng)
        _clavicle(girdle, body, side, rng)
    soft = 0.006
    return 0.105 * back.field(soft) + 0.05 * front.field(0.01) + 0.11 * girdle.field(soft)


def _posterior_rib(sheet: Sheet, body: Body, side: int, number: int, rng: np.random.Generator) -> None:
    start = body.apex - 0.02 + body.rib_step * number
    r = np.linspace(0.0, 1.0, 18)
    fall = body.rib_drop * (0.13 + 0.016 * number) * (0.55 if number == 0 else 1.0)
    level = start + 0.5 * fall
    reach = float(chest_wall(body, np.array(level + 0.1, dtype=np.float32))) + 0.01
    w = 0.05 + (reach - 0.05) * np.sin(r * np.pi / 2)
    v = start + fall * (-0.45 * np.sin(np.pi * np.minimum(r * 1.4, 1)) + 1.5 * r**2.2) + float(rng.normal(0, 0.004))
    half = (0.026 - 0.007 * (r - 0.35) ** 2) * float(rng.uniform(0.92, 1.08))
    _band(sheet, np.stack([side * w, v], axis=1), half, fill=0.62, rim=1.0)


def _anterior_rib(sheet: Sheet, body: Body, side: int, number: int, rng: np.random.Generator) -> None:
    start = body.apex - 0.02 + body.rib_step * number
    lateral = start + body.rib_drop * (0.13 + 0.016 * number) * 1.5
    reach = float(chest_wall(body, np.array(lateral, dtype=np.float32))) + 0.01
    r = np.linspace(0, 1, 16)
    # Front ribs run down towards the breastbone and fade where they turn to cartilage.
    end = 0.3 * reach + 0.02 * number
    w = end + (reach - end) * np.cos(r * np.pi / 2)
    v = lateral + 0.015 + (0.18 + 0.02 * number) * r**1.3 * body.rib_drop
    centre = np.stack([side * w + body.rotated, v], axis=1)
    half = np.full_like(r, 0.029 * float(rng.uniform(0.9, 1.1)))
    _band(sheet, centre[:11], half[:11], fill=0.7, rim=0.95)
    _band(sheet, centre[10:14], half[10:14], fill=0.5, rim=0.6)
    _band(sheet, centre[13:], half[13:] * 0.9, fill=0.22, rim=0.25)


def _clavicle(sheet: Sheet, body: Body, side: int, rng: np.random.Generator) -> None:
    r = np.linspace(0, 1, 16)
    inner = body.apex + 0.17 + float(rng.normal(0, 0.012))
    w = 0.065 + 0.62 * r
    v = inner - 0.13 * r + 0.03 * np.sin(2 * np.pi * r) - 0.05 * r**2
    half = 0.021 + 0.012 * (np.abs(r - 0.5) * 2) ** 3
    _band(sheet, np.stack([side * w + body.rotated, v], axis=1), half, fill=0.7, rim=1.0)


def _scapula(sheet: Sheet, body: Body, side: int, rng: np.random.Generator) -> None:
    edge = body.thorax - body.scapula + float(rng.normal(0, 0.02))
    points = SCAPULA * (side, 1) + (side * edge, 0)
    sheet.area(points, 0.42)
    sheet.line(points[[1, 2, 3, 4]], 0.012, 0.85)
    sheet.line(points[[4, 5, 6, 0]], 0.008, 0.6)
    socket = (side * (edge + 0.37), -0.6)
    sheet.disc(socket, 0.115, 0.8)
    sheet.line(points[[0, 1]], 0.035, 0.7)


def draw_spine(body: Body, frame: Frame) -> Array:
    """Vertebral bodies behind the mediastinum, seen faintly, with disc spaces and pedicles; a quarter resolution."""
    sheet = Sheet(frame, 4)
    step = body.rib_step
    for number in range(-2, 14):
        v = body.apex + step * number
        half = 0.068 + 0.0016 * number
        sheet.area(VERTEBRA * (half, step) + (0, v), 0.7)
        for side in SIDES:
            sheet.disc((side * half * 0.68, v - 0.1 * step), 0.013, 1.0)
        sheet.line(np.array([(0, v - 0.02), (0, v + 0.3 * step)]), 0.018, 0.95)
    return 0.045 * sheet.field(0.008)
