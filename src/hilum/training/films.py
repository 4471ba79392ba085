"""Films as batches are made from them: one stack of stored greys, taken by row number.

The stack is in memory (on a GPU: in the GPU's, where there is room for it), or streamed from a store of rows on disk;
:mod:`hilum.training.data_path` chooses. Batches are the same bits either way.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from hilum.arrays import Array, Indices
from hilum.errors import TrainingError
from hilum.training.row_store import RowsOf

Stack = Array | RowsOf
"""Tiles uint8 [n, h, w] or [n, c, h, w]: an array, or rows of a store that are read when they are asked for."""

_AT_ONCE = 256


def some_of(tiles: Stack, rows: Indices) -> Stack:
    """Tiles of these rows, in this order; those of a store stay on disk."""
    return RowsOf(tiles.store, tiles.places[rows]) if isinstance(tiles, RowsOf) else tiles[rows]


def grey_counts(tiles: Stack) -> Indices:
    """How often each of the 256 greys occurs, counted a few films at a time."""
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(tiles), _AT_ONCE):
        counts += np.bincount(tiles[start : start + _AT_ONCE].reshape(-1), minlength=256)
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class Films:
    """Preprocessed films: an array in memory, or rows of a store that are read as they are asked for.

    Attributes:
        tiles: uint8 [n, h, w] or [n, c, h, w].
        film_ids: n names; with the pixels they say which film it is.

    Raises:
        TrainingError: tiles of another type or shape, or another number of names.
    """

    tiles: Stack
    film_ids: tuple[str, ...]
    _digests: dict[int, bytes] = field(default_factory=dict, init=False, repr=False)
    _on_device: dict[torch.device, Tensor | None] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.tiles.dtype != np.uint8 or self.tiles.ndim not in (3, 4):
            raise TrainingError(
                f"Films to train on must be uint8 [n, h, w] or [n, c, h, w], but are {self.tiles.dtype} "
                f"{list(self.tiles.shape)}. Preprocess them first."
            )
        if len(self.film_ids) != len(self.tiles):
            raise TrainingError(f"{len(self.tiles)} films have {len(self.film_ids)} ids. Give one a film.")

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of each film."""
        return (1, *self.tiles.shape[1:]) if self.tiles.ndim == 3 else self.tiles.shape[1:]

    def take(self, rows: Tensor) -> UInt8[Tensor, "n c h w"]:
        """The films of these rows, in this order, on the rows' device."""
        stack = self._stack_on(rows.device)
        if stack is not None:
            films = stack.index_select(0, rows)
        else:
            picked = np.asarray(self.tiles[rows.cpu().numpy()])
            films = torch.from_numpy(picked).to(rows.device)
        return films[:, None] if films.ndim == 3 else films

    @property
    def streamed(self) -> bool:
        """Whether films are read from disk as they are asked for."""
        return isinstance(self.tiles, RowsOf)

    def _stack_on(self, device: torch.device) -> UInt8[Tensor, "n ..."] | None:
        """All films on a GPU, copied there once, when they are in memory and take no more than half of what is free."""
        if device.type != "cuda" or isinstance(self.tiles, RowsOf):
            return None
        if device not in self._on_device:
            fits = self.tiles.nbytes <= torch.cuda.mem_get_info(device)[0] // 2
            self._on_device[device] = torch.tensor(np.asarray(self.tiles)).to(device) if fits else None
        return self._on_device[device]

    def ids(self, rows: Tensor) -> Sequence[str]:
        """Names of the films of these rows."""
        return [self.film_ids[row] for row in rows.tolist()]

    def digest(self, row: int) -> bytes:
        """Sixteen bytes over a film's name, shape and pixels, hence over its preprocessing too."""
        if row not in self._digests:
            tile = np.ascontiguousarray(self.tiles[row])
            summary = hashlib.blake2b(f"{self.film_ids[row]}\x1f{tile.shape}\x1f".encode(), digest_size=16)
            summary.update(tile.data)
            self._digests[row] = summary.digest()
        return self._digests[row]

    def summary(self, rows: Indices) -> str:
        """One digest, 32 hex digits, over the films of these rows in order."""
        return hashlib.blake2b(b"".join(self.digest(int(row)) for row in rows), digest_size=16).hexdigest()
