"""From density to a film: exposure, contrast, sharpness, grid, collimation, marker and noise."""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hilum.arrays import Array
from hilum.datasets.phantom.cohort import FilmPlan
from hilum.datasets.phantom.config import Device
from hilum.datasets.phantom.frame import double, noise

MARGIN = 0.06
"""Share of the stored range left free below black and above white."""


def expose(plan: FilmPlan, density: Array) -> Array:
    """A film of a body.

    Args:
        plan: the film; its device and its own chance decide exposure, contrast and noise.
        density: float32 [h/2, w/2], 0 for air … about 1 for the abdomen.

    Returns:
        float32 [h, w] in 0 (black) … 1 (white).
    """
    rng, device = plan.stream("detector"), plan.device
    for _ in range(device.softening):
        density = _softer(density)
    dark, gain = float(rng.uniform(-0.07, 0.05)), float(rng.uniform(0.85, 1.15))
    value = np.clip(0.5 + np.float32(gain) * (density - np.float32(0.5)) + np.float32(dark), 0, 1.2)
    bend = device.gamma * float(rng.uniform(0.85, 1.2))
    value = _shoulder(value ** np.float32(bend))
    film = double(value)
    kind = "white" if device.grain == 1 else "grain"
    sigma = device.sigma * float(rng.uniform(0.7, 1.5))
    # Quantum noise: fewer photons reach the detector behind dense parts.
    spread = np.float32(0.9 * sigma) * film
    spread += np.float32(0.6 * sigma)
    spread *= noise(kind, rng, (plan.rows, plan.columns))
    film += spread
    if device.grid_lines:
        period = float(rng.uniform(4.6, 5.4))
        lines = np.sin(np.arange(plan.columns, dtype=np.float32) * np.float32(2 * np.pi / period))
        film += np.float32(device.grid_lines) * lines
    _mark(plan, film, rng)
    _collimate(plan, film, rng)
    return np.clip(film, 0, 1, out=film)


def _softer(density: Array) -> Array:
    """Smooth by 1-2-1 weights along both axes."""
    padded = np.pad(density, 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) * np.float32(1 / 16)


def _shoulder(value: Array) -> Array:
    """The film's response: a toe, a straight part and a shoulder (a smoothstep mixed with the identity)."""
    value = np.clip(value, 0, 1)
    return 0.5 * value + 0.5 * value * value * (3 - 2 * value)


def _mark(plan: FilmPlan, film: Array, rng: np.random.Generator) -> None:
    """Burn the laterality letter into an upper corner: R by the patient's right, the picture's left."""
    letter = "R" if rng.random() < 0.5 else "L"
    stamp = _letter(letter, plan.marker, max(8, plan.rows // 22))
    h, w = stamp.shape
    top = int(plan.rows * rng.uniform(0.06, 0.13))
    inset = int(plan.columns * rng.uniform(0.06, 0.11))
    left = inset if letter == "R" else plan.columns - inset - w
    window = film[top : top + h, left : left + w]
    window += stamp[: window.shape[0], : window.shape[1]] * (np.float32(0.97) - window)


@lru_cache(maxsize=32)
def _letter(letter: str, style: str, height: int) -> Array:
    """A lead letter as coverage 0 … 1, float32 [h, w]."""
    side = round(height * 1.7)
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    pen.text((side / 2, side / 2), letter, fill=255, font=ImageFont.load_default(height), anchor="mm")
    width, edge = max(1, height // 12), side - 2
    if style == "boxed":
        pen.rectangle((1, 1, edge, edge), outline=255, width=width)
    elif style == "ringed":
        pen.ellipse((1, 1, edge, edge), outline=255, width=width)
    stamp = np.asarray(image, dtype=np.float32) / np.float32(255)
    stamp.flags.writeable = False
    return stamp


def _collimate(plan: FilmPlan, film: Array, rng: np.random.Generator) -> None:
    """Unexposed borders, shown black, each of its own width; some films have none."""
    limit = plan.device.collimation
    top, bottom, left, right = (max(0.0, float(x)) for x in rng.uniform(-0.5 * limit, limit, size=4))
    film[: int(top * plan.rows)] *= np.float32(0.04)
    film[plan.rows - int(bottom * plan.rows) :] *= np.float32(0.04)
    film[:, : int(left * plan.columns)] *= np.float32(0.04)
    film[:, plan.columns - int(right * plan.columns) :] *= np.float32(0.04)


def stored_range(device: Device) -> tuple[int, int]:
    """Stored values of black and white, before inversion for MONOCHROME1."""
    top = (1 << device.bits_stored) - 1
    return round(MARGIN * top), round((1 - MARGIN) * top)


def store(device: Device, film: Array) -> Array:
    """Values as the device stores them: uint16 [h, w] of ``bits_stored`` bits; MONOCHROME1 is inverted.

    Args:
        device: bits and photometric interpretation.
        film: float32 [h, w] in 0 (black) … 1 (white).
    """
    black, white = stored_range(device)
    if device.photometric == "MONOCHROME1":
        black, white = white, black
    return (film * np.float32(white - black) + np.float32(black + 0.5)).astype(np.uint16)


def window(device: Device) -> tuple[float, float]:
    """Window centre and width that show black to white (DICOM PS3.3 C.11.2.1.2.1, LINEAR)."""
    black, white = stored_range(device)
    return (black + white + 1) / 2, float(white - black + 1)
