"""Augmentation of a whole batch at once, and a view of a film that is the same wherever it is made.

View v of a film is a function of (config, seed, film, v): its parameters come from a stream of their own, and each
step on pixels treats every film alone. So a view does not depend on the batch, the order, the epoch or the process, and
a cached view equals the same view made live, bit for bit. View 0 is the clean film.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from hilum.arrays import Array
from hilum.errors import ConfigError
from hilum.randomness import seed_for, stream

_ELASTIC_NODES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far a view may stray from the film; each amount is drawn evenly from −x … +x, and 0 turns it off.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    rotation_degrees: float = 10.0
    """Rotation about the centre, 0 … 45."""

    shift: float = 0.05
    """Shift along each axis, as a share of the side, 0 … 0.5."""

    scale: float = 0.1
    """Magnification 1 − x … 1 + x, 0 … 0.5."""

    elastic: float = 0.01
    """Smooth local displacement at 5 × 5 nodes, as a share of the side, 0 … 0.1."""

    contrast: float = 0.2
    """Contrast about middle grey 1 − x … 1 + x, 0 … 0.9."""

    brightness: float = 0.1
    """Added grey, as a share of full scale, 0 … 0.5."""

    gamma: float = 0.2
    """Exponent e^−x … e^x, 0 … 1.5."""

    noise: float = 0.02
    """White Gaussian noise with a standard deviation of 0 … x, as a share of full scale, 0 … 0.5."""

    horizontal_flip: bool = False
    """Mirror half of the views. Off: the heart is on the left."""

    crop: float = 0.0
    """Most that is cut off: the view is a window of 1 − x … 1 of the side, anywhere on the film, brought back to full
    size; 0 … 0.5."""

    cutout: float = 0.0
    """Side of a square that is set to middle grey, as a share of the film's side, centred anywhere on the film; 0 … 0.5
    (DeVries, Taylor 2017, arXiv:1708.04552)."""

    def __post_init__(self) -> None:
        tops = {
            "rotation_degrees": 45.0,
            "shift": 0.5,
            "scale": 0.5,
            "elastic": 0.1,
            "contrast": 0.9,
            "brightness": 0.5,
            "gamma": 1.5,
            "noise": 0.5,
            "crop": 0.5,
            "cutout": 0.5,
        }
        problems = [
            f"Augmentation.{field} is {getattr(self, field)}, but must be in 0 … {top:g}."
            for field, top in tops.items()
            if not 0 <= getattr(self, field) <= top
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class _Draw:
    """What one view does to one film."""

    turn: tuple[float, float, float, float]  # rows of the 2 × 2 matrix from output to input coordinates
    shift: tuple[float, float]  # of the input, in coordinates −1 … 1
    nodes: Array  # [2, nodes, nodes] displacement, in coordinates −1 … 1
    tone: Array  # float32 [256]: grey 0 … 1 for each stored value
    noise: float
    hole: tuple[float, float]  # centre of the square that is blanked, in shares of width and height


def _draw(config: Augmentation, seed: int, film_id: str, view: int) -> _Draw:
    """Every amount is drawn whether it is used or not, so turning one off leaves the others as they were.

    New amounts are drawn after the old ones, so old views stay as they were.
    """
    chance = stream(seed, "view", film_id, view)
    angle, right, down, scale, contrast, brightness, gamma = chance.uniform(-1, 1, 7)
    noise, mirrored = chance.uniform(0, 1, 2)
    nodes = chance.uniform(-1, 1, (2, _ELASTIC_NODES, _ELASTIC_NODES)) * 2 * config.elastic
    cut, *window, across, down_at = chance.uniform(0, 1, 5)
    kept = 1 - cut * config.crop
    corner = [(1 - kept) * (2 * at - 1) for at in window]
    radians = np.deg2rad(angle * config.rotation_degrees)
    size = kept / (1 + scale * config.scale)
    mirror = -1.0 if config.horizontal_flip and mirrored < 0.5 else 1.0
    cos, sin = float(np.cos(radians) * size), float(np.sin(radians) * size)
    grey = (np.arange(256) / 255.0) ** np.exp(gamma * config.gamma)
    grey = (grey - 0.5) * (1 + contrast * config.contrast) + 0.5 + brightness * config.brightness
    return _Draw(
        turn=(cos * mirror, -sin, sin * mirror, cos),
        shift=(right * 2 * config.shift * kept + corner[0], down * 2 * config.shift * kept + corner[1]),
        nodes=nodes * kept,
        tone=np.clip(grey, 0, 1).astype(np.float32),
        noise=float(noise * config.noise),
        hole=(float(across), float(down_at)),
    )


def clean(films: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """View 0: the films as they are, in 0 … 1."""
    return films.to(torch.float32) / 255.0


def make_views(
    films: UInt8[Tensor, "n c h w"], film_ids: Sequence[str], view: int, *, config: Augmentation, seed: int
) -> Float[Tensor, "n c h w"]:
    """One view of each film.

    The tone curve (gamma, contrast, brightness) is one table of 256 greys a film; crop, rotation, shift, scale, mirror
    and elastic displacement are one bilinear resampling, black outside; then comes noise, and cutout last.

    Args:
        films: stored greys.
        film_ids: n names; with the seed and the view's number they decide the view.
        view: 0 for the clean films, else any number.
        config: how far views stray.
        seed: of the views; the same for all folds of a run, which share what they compute.

    Returns:
        greys in 0 … 1, on the films' device: the same on every device, up to rounding.
    """
    if view == 0:
        return clean(films)
    draws = [_draw(config, seed, film_id, view) for film_id in film_ids]
    toned = _toned(draws, films)
    at = _grid if films.device.type == "cpu" else _grid_on
    grid = at(draws, films.shape[2], films.shape[3], films.device)
    views = grid_sample(toned, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if config.noise > 0:
        views = views + _noise(draws, film_ids, view, films.shape, seed).to(films.device)
    views = views.clamp_(0, 1)
    if config.cutout > 0:
        views.masked_fill_(_holes(draws, films.shape[2], films.shape[3], config.cutout).to(films.device), 0.5)
    return views


def _toned(draws: Sequence[_Draw], films: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Each stored grey looked up in its film's tone curve; all curves are one long table."""
    tones = torch.from_numpy(np.concatenate([draw.tone for draw in draws])).to(films.device, non_blocking=True)
    start = torch.arange(len(draws), dtype=torch.int32, device=films.device).mul_(256).view(-1, 1, 1, 1)
    return tones.index_select(0, (films.to(torch.int32) + start).view(-1)).view(films.shape)


def _grid(draws: Sequence[_Draw], height: int, width: int, device: torch.device) -> Float[Tensor, "n h w 2"]:
    """Where each output pixel comes from, in coordinates −1 … 1 (x, y); computed on the CPU, the same bits always.

    Rotation is sums and products one by one, not a product of stacked matrices: its rounding could depend on the batch.
    """
    y, x = _centres(height)[None, :, None], _centres(width)[None, None, :]
    turn = np.array([draw.turn for draw in draws], dtype=np.float32)[:, :, None, None]
    shift = np.array([draw.shift for draw in draws], dtype=np.float32)[:, :, None, None]
    nodes = np.stack([draw.nodes for draw in draws]).astype(np.float32)
    grid = np.empty((len(draws), height, width, 2), dtype=np.float32)
    for axis in (0, 1):
        np.add(turn[:, 2 * axis] * x, turn[:, 2 * axis + 1] * y + shift[:, axis], out=grid[..., axis])
        if nodes.any():
            # One small product a film, so it doesn't depend on the batch either.
            grid[..., axis] += np.matmul(_ramps(height) @ nodes[:, axis], _ramps(width).T)
    return torch.from_numpy(grid).to(device)


def _grid_on(draws: Sequence[_Draw], height: int, width: int, device: torch.device) -> Float[Tensor, "n h w 2"]:
    """As :func:`_grid`, up to rounding, but computed on the device: a GPU would wait for the CPU otherwise."""

    def there(values: Array) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True)

    y, x = there(_centres(height))[None, :, None], there(_centres(width))[None, None, :]
    turn, shift = there(np.array([draw.turn for draw in draws])), there(np.array([draw.shift for draw in draws]))
    nodes = there(np.stack([draw.nodes for draw in draws]))
    moved = there(_ramps(height)) @ nodes @ there(_ramps(width)).T
    axes = [
        turn[:, 2 * axis, None, None] * x + (turn[:, 2 * axis + 1, None, None] * y + shift[:, axis, None, None])
        for axis in (0, 1)
    ]
    return torch.stack([axes[0] + moved[:, 0], axes[1] + moved[:, 1]], dim=3)


def _centres(size: int) -> Array:
    """Centres of pixels in coordinates −1 … 1."""
    return np.asarray(((np.arange(size) * 2 + 1) / size - 1).astype(np.float32))


def _holes(draws: Sequence[_Draw], height: int, width: int, side: float) -> Bool[Tensor, "n 1 h w"]:
    """True where a square blanks the view; its parts beyond the border are lost."""
    centre = np.array([draw.hole for draw in draws])
    across = np.abs((np.arange(width) + 0.5) / width - centre[:, :1]) <= side / 2
    down = np.abs((np.arange(height) + 0.5) / height - centre[:, 1:]) <= side / 2
    return torch.from_numpy(down[:, None, :, None] & across[:, None, None, :])


def _ramps(size: int) -> Array:
    """Weights [size, nodes] of smooth (cosine) interpolation between evenly spaced nodes."""
    at = np.linspace(0, _ELASTIC_NODES - 1, size)
    distance = np.abs(at[:, None] - np.arange(_ELASTIC_NODES)[None, :])
    return np.where(distance < 1, 0.5 * (1 + np.cos(np.pi * distance)), 0.0).astype(np.float32)


def _noise(
    draws: Sequence[_Draw], film_ids: Sequence[str], view: int, shape: torch.Size, seed: int
) -> Float[Tensor, "n c h w"]:
    """Drawn on the CPU, film by film, so that every device gets the same noise."""
    noise = torch.empty(shape)
    for i, (draw, film_id) in enumerate(zip(draws, film_ids, strict=True)):
        generator = torch.Generator().manual_seed(seed_for(seed, "noise", film_id, view))
        noise[i].normal_(generator=generator).mul_(draw.noise)
    return noise
