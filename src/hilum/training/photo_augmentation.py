"""Augmentation of photographs and digits: a whole batch at once, from one seeded generator.

The clinic's films have :mod:`hilum.training.augmentation`, where a view belongs to a film and can be cached. Here a
batch is changed as one tensor, which is what a network that trains on fresh views each epoch needs. Every amount is
drawn on the CPU, so that a GPU sees the same crops, up to rounding.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from hilum.errors import ConfigError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoAugmentation:
    """How far a batch may stray from its images; 0 turns a step off.

    Raises:
        ConfigError: values out of range, all of them at once.
    """

    flip: bool = False
    """Mirror half of the images left to right."""

    shift_pixels: int = 0
    """Shift along each axis by up to so many pixels (a random crop of the padded image), 0 … 64."""

    rotation_degrees: float = 0.0
    """Rotation about the centre by −x … +x, 0 … 180."""

    zoom: float = 0.0
    """Magnification 1 − x … 1 + x, 0 … 0.9."""

    brightness: float = 0.0
    """Factor 1 − x … 1 + x on all channels, 0 … 0.9."""

    contrast: float = 0.0
    """Contrast about the image's mean 1 − x … 1 + x, 0 … 0.9."""

    saturation: float = 0.0
    """Distance from grey 1 − x … 1 + x, 0 … 0.9; needs three channels."""

    cutout_pixels: int = 0
    """Side of a square that is set to the image's mean, 0 … 64 (DeVries, Taylor 2017, arXiv:1708.04552)."""

    def __post_init__(self) -> None:
        tops = {
            "shift_pixels": 64,
            "rotation_degrees": 180,
            "zoom": 0.9,
            "brightness": 0.9,
            "contrast": 0.9,
            "saturation": 0.9,
            "cutout_pixels": 64,
        }
        problems = [
            f"PhotoAugmentation.{field} is {getattr(self, field)}, but must be in 0 … {top:g}."
            for field, top in tops.items()
            if not 0 <= getattr(self, field) <= top
        ]
        if problems:
            raise ConfigError(problems)


def augment(
    images: Float[Tensor, "n c h w"], config: PhotoAugmentation, generator: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """A changed copy of a batch.

    Geometry first (mirror and shift exactly, rotation and zoom in one bilinear resampling, black outside), then tone,
    then cutout.

    Args:
        images: intensities in 0 … 1.
        config: how far.
        generator: on the CPU; every image draws every amount, whether it is used or not.

    Returns:
        intensities in 0 … 1, on the images' device.
    """
    n = len(images)
    draws = torch.rand((n, 10), generator=generator).to(images.device, non_blocking=True)
    out = images
    if config.flip:
        out = torch.where(draws[:, 0].lt(0.5)[:, None, None, None], out.flip(3), out)
    if config.shift_pixels:
        out = _shift(out, draws[:, 1:3], config.shift_pixels)
    if config.rotation_degrees or config.zoom:
        out = _turn(out, 2 * draws[:, 3:5] - 1, config)
    out = _tone(out, 2 * draws[:, 5:8] - 1, config)
    if config.cutout_pixels:
        out = _cut_out(out, draws[:, 8:10], config.cutout_pixels)
    return out.clone() if out is images else out


def _shift(images: Tensor, draws: Tensor, most: int) -> Tensor:
    n, _, height, width = images.shape
    padded = pad(images, (most, most, most, most))
    top, left = (draws * (2 * most + 1)).long().clamp_(0, 2 * most).unbind(1)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    picked = padded.permute(0, 2, 3, 1)[
        torch.arange(n, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)


def _turn(images: Tensor, draws: Tensor, config: PhotoAugmentation) -> Tensor:
    angle = draws[:, 0] * math.radians(config.rotation_degrees)
    size = 1 / (1 + draws[:, 1] * config.zoom)
    cos, sin, zero = torch.cos(angle) * size, torch.sin(angle) * size, torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _tone(images: Tensor, draws: Tensor, config: PhotoAugmentation) -> Tensor:
    brightness, contrast, saturation = (draws[:, i, None, None, None] for i in range(3))
    out = images
    if config.brightness:
        out = out * (1 + brightness * config.brightness)
    if config.contrast:
        mean = out.mean(dim=(1, 2, 3), keepdim=True)
        out = mean + (out - mean) * (1 + contrast * config.contrast)
    if config.saturation and images.shape[1] == 3:
        luma = torch.tensor(_LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
        grey = (out * luma).sum(1, keepdim=True)
        out = grey + (out - grey) * (1 + saturation * config.saturation)
    return out if out is images else out.clamp(0, 1)


def _cut_out(images: Tensor, draws: Tensor, side: int) -> Tensor:
    height, width = images.shape[2:]
    y = (torch.arange(height, device=images.device)[None] - draws[:, :1] * height).abs() <= side / 2
    x = (torch.arange(width, device=images.device)[None] - draws[:, 1:] * width).abs() <= side / 2
    hole = (y[:, None, :, None] & x[:, None, None, :]).expand_as(images[:, :1])
    return torch.where(hole, images.mean(dim=(2, 3), keepdim=True), images)
