"""Aliases for the array shapes that cross between rooms (jaxtyping on NumPy).

Letters: n films, k findings, h rows, w columns, c channels, d features, t samples, m members of an ensemble.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8, UInt16

Array = np.ndarray[Any, Any]

Pixels = UInt16[np.ndarray, "h w"]
"""Presentation values of a film: 0 is black, 65535 is white, whatever the file's polarity and bit depth."""

Tile = UInt8[np.ndarray, "h w"]
"""A film after preprocessing: what a network is fed with, before normalisation."""

Tiles = UInt8[np.ndarray, "n h w"]
"""Films after preprocessing, stacked."""

Mask = Bool[np.ndarray, "h w"]
"""True where something is, such as a lesion or a lung."""

Heatmap = Float[np.ndarray, "h w"]
"""A class activation map, ≥ 0, in units of logit (unnormalised) unless said otherwise."""

Scores = Float[np.ndarray, "n k"]
"""Logits, probabilities or targets: one row a film, one column a finding; NaN where unknown."""

Vector = Float[np.ndarray, " n"]
"""One number a film."""

Indices = Integer[np.ndarray, " n"]
"""Row numbers into a table or a stack."""

__all__ = ["Array", "Heatmap", "Indices", "Mask", "Pixels", "Scores", "Tile", "Tiles", "Vector"]
