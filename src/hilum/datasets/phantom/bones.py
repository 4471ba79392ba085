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
        """A line through points [p, 2] of the patient; width in patient units; tone 0 … 1."""
        self.lines(points[None], np.array([width]), np.array([tone]))

    def lines(self, points: Array, widths: Array, tones: Array) -> None:
        """Many lines of as many points each: points [n, p, 2], widths [n] in patient units, tones [n] in 0 … 1."""
        pixels, each = self.frame.pixels(points.reshape(-1, 2), self.scale), points.shape[1]
        thick = np.maximum(1, np.round(self.frame.length(1.0, self.scale) * widths)).astype(int).tolist()
        shades = np.round(255 * tones).astype(int).tolist()
        for i, (width, shade) in enumerate(zip(thick, shades, strict=True)):
            joint = "curve" if width > 3 else None
            self.pen.line(pixels[i * each : (i + 1) * each], fill=shade, width=width, joint=joint)

    def area(self, points: Array, tone: float) -> None:
        """A filled outline through points [p, 2] of the patient."""
        self.areas(points[None], tone)

    def areas(self, points: Array, tone: float) -> None:
        """Many filled outlines of as many points each: points [n, p, 2]."""
        pixels, each = self.frame.pixels(points.reshape(-1, 2), self.scale), points.shape[1]
        for i in range(len(points)):
            self.pen.polygon(pixels[i * each : (i + 1) * each], fill=round(255 * tone))

    def disc(self, centre: tuple[float, float], radius: float, tone: float) -> None:
        """A filled disc; at least one pixel across."""
        ((x, y),) = self.frame.pixels(np.array([centre]), self.scale)
        r = max(0.6, self.frame.length(radius, self.scale))
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=round(255 * tone))

    def field(self, soft_units: float = 0.0) -> Array:
        """The drawing as float32 [h, w] in 0 … 1, blurred by a box that reaches soft_units of the patient."""
        image = self.image
        if soft_units > 0:
            image = image.filter(ImageFilter.BoxBlur(self.frame.length(soft_units, self.scale)))
        return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)


def _bands(sheet: Sheet, centres: Array, half_widths: Array, *, fill: float, rim: float) -> None:
    """Flat bones: filled bands with cortical rims, the lower one denser; centres [n, p, 2], half_widths [n, p]."""
    off = np.stack([np.zeros_like(half_widths), half_widths], axis=2)
    upper, lower = centres - off, centres + off
    sheet.areas(np.concatenate([upper, lower[:, ::-1]], axis=1), fill)
    count = len(centres)
    sheet.lines(upper, np.full(count, 0.005), np.full(count, rim * 0.75))
    sheet.lines(lower, np.full(count, 0.008), np.full(count, rim))


def draw_bones(body: Body, frame: Frame, rng: np.random.Generator) -> Array:
    """Density of ribs, shoulder blades and clavicles, float32 [h, w] at half resolution, about 0 … 0.3."""
    back, front, girdle = Sheet(frame), Sheet(frame), Sheet(frame)
    for side in SIDES:
        _posterior_ribs(back, body, side, rng)
        _anterior_ribs(front, body, side, rng)
        _scapula(girdle, body, side, rng)
        _clavicle(girdle, body, side, rng)
    return 0.105 * back.field() + 0.05 * front.field() + 0.11 * girdle.field()


def _rib_levels(body: Body, numbers: Array) -> tuple[Array, Array]:
    """v at the spine and fall to the side, [n, 1] each."""
    start = body.apex - 0.02 + body.rib_step * numbers[:, None]
    return start, body.rib_drop * (0.13 + 0.016 * numbers[:, None]) * np.where(numbers[:, None] == 0, 0.55, 1.0)


def _posterior_ribs(sheet: Sheet, body: Body, side: int, rng: np.random.Generator) -> None:
    start, fall = _rib_levels(body, np.arange(11))
    r = np.linspace(0.0, 1.0, 18)[None]
    reach = chest_wall(body, start + 0.5 * fall + 0.1) + 0.01
    w = 0.05 + (reach - 0.05) * np.sin(r * np.pi / 2)
    v = start + fall * (-0.45 * np.sin(np.pi * np.minimum(r * 1.4, 1)) + 1.5 * r**2.2)
    v = v + rng.normal(0, 0.004, size=(11, 1))
    half = (0.026 - 0.007 * (r - 0.35) ** 2) * rng.uniform(0.92, 1.08, size=(11, 1))
    _bands(sheet, np.stack([side * w, v], axis=2), half, fill=0.62, rim=1.0)


def _anterior_ribs(sheet: Sheet, body: Body, side: int, rng: np.random.Generator) -> None:
    numbers = np.arange(1, 8)
    start, fall = _rib_levels(body, numbers)
    lateral = start + 1.5 * fall
    reach = chest_wall(body, lateral) + 0.01
    r = np.linspace(0, 1, 16)[None]
    # Front ribs run down towards the breastbone and fade where they turn to cartilage.
    end = 0.3 * reach + 0.02 * numbers[:, None]
    w = end + (reach - end) * np.cos(r * np.pi / 2)
    v = lateral + 0.015 + (0.18 + 0.02 * numbers[:, None]) * r**1.3 * body.rib_drop
    centre = np.stack([side * w + body.rotated, v], axis=2)
    half = np.broadcast_to(0.029 * rng.uniform(0.9, 1.1, size=(7, 1)), (7, 16))
    for part, fill, rim in ((slice(0, 11), 0.7, 0.95), (slice(10, 14), 0.5, 0.6), (slice(13, 16), 0.22, 0.25)):
        _bands(sheet, centre[:, part], half[:, part], fill=fill, rim=rim)


def _clavicle(sheet: Sheet, body: Body, side: int, rng: np.random.Generator) -> None:
    r = np.linspace(0, 1, 16)
    inner = body.apex + 0.17 + float(rng.normal(0, 0.012))
    w = 0.065 + 0.62 * r
    v = inner - 0.13 * r + 0.03 * np.sin(2 * np.pi * r) - 0.05 * r**2
    half = 0.021 + 0.012 * (np.abs(r - 0.5) * 2) ** 3
    _bands(sheet, np.stack([side * w + body.rotated, v], axis=1)[None], half[None], fill=0.7, rim=1.0)


def _scapula(sheet: Sheet, body: Body, side: int, rng: np.random.Generator) -> None:
    edge = body.thorax - body.scapula + float(rng.normal(0, 0.02))
    points = SCAPULA * (side, 1) + (side * edge, 0)
    sheet.area(points, 0.42)
    sheet.line(points[[1, 2, 3, 4]], 0.012, 0.85)
    sheet.line(points[[4, 5, 6, 0]], 0.008, 0.6)
    sheet.disc((side * (edge + 0.37), -0.6), 0.115, 0.8)
    sheet.line(points[[0, 1]], 0.035, 0.7)


def draw_spine(body: Body, frame: Frame) -> Array:
    """Vertebral bodies behind the mediastinum, seen faintly, with disc spaces and pedicles; a quarter resolution."""
    sheet, step = Sheet(frame, 4), body.rib_step
    numbers = np.arange(-2, 14)
    v, half = body.apex + step * numbers, 0.068 + 0.0016 * numbers
    centres = np.stack([np.zeros(len(v)), v], axis=1)[:, None]
    sheet.areas(centres + VERTEBRA * np.stack([half, np.full(len(v), step)], axis=1)[:, None], 0.7)
    for side in SIDES:
        pedicles = np.stack([side * half * 0.68, v - 0.1 * step], axis=1)
        dots = pedicles[:, None] + np.array([(0, -0.008), (0, 0.008)])
        sheet.lines(dots, np.full(len(v), 0.02), np.ones(len(v)))
    processes = centres + np.array([(0, -0.02), (0, 0.3 * step)])
    sheet.lines(processes, np.full(len(v), 0.018), np.full(len(v), 0.95))
    return 0.045 * sheet.field(0.008)
