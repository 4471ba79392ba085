"""Reference tiles and the answers that they must give: a bundle proves itself wherever it is opened."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array
from hilum.bundle.schema import OPTIONAL_OUTPUTS, OUTPUTS, BundleInfo
from hilum.errors import BundleError

TILES_MEMBER = "reference/tiles.npy"
_MAX_HEADER = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceAnswers:
    """A few tiles, and the graph's outputs for them on the machine that made the bundle.

    Attributes:
        tiles: uint8 [n, 1, h, w].
        outputs: float32 arrays by name; see :data:`hilum.bundle.schema.OUTPUTS`.
    """

    tiles: Array
    outputs: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.tiles)

    def to_members(self) -> dict[str, bytes]:
        """Raw ``.npy`` members; no pickle."""
        arrays = {TILES_MEMBER: np.asarray(self.tiles, dtype=np.uint8)}
        arrays |= {f"reference/{name}.npy": np.asarray(values, np.float32) for name, values in self.outputs.items()}
        return {name: _npy(values) for name, values in arrays.items()}


def read_reference(contents: Mapping[str, bytes], info: BundleInfo) -> ReferenceAnswers:
    """Read the reference members and hold them against the bundle's labels and sizes.

    Raises:
        BundleError: a member is missing, no array, of another kind or shape.
    """
    needed = [name for name in OUTPUTS if name not in OPTIONAL_OUTPUTS or f"reference/{name}.npy" in contents]
    for member in (TILES_MEMBER, *(f"reference/{name}.npy" for name in needed)):
        if member not in contents:
            raise BundleError(f"Bundle member {member!r} is missing. Make the bundle again.")
    tiles = _array(contents[TILES_MEMBER], TILES_MEMBER, np.dtype(np.uint8))
    size = info.preprocessing.size
    if tiles.ndim != 4 or tiles.shape[1:] != (1, size, size) or not len(tiles):
        raise BundleError(
            f"Bundle member {TILES_MEMBER!r} has shape {tiles.shape}, but {(1, size, size)} a tile is what its "
            "preprocessing makes. Make the bundle again."
        )
    outputs = {name: _output(contents, name, info, len(tiles)) for name in needed}
    return ReferenceAnswers(tiles=tiles, outputs=outputs)


def _output(contents: Mapping[str, bytes], name: str, info: BundleInfo, films: int) -> Array:
    member = f"reference/{name}.npy"
    values = _array(contents[member], member, np.dtype(np.float32))
    wanted = OUTPUTS[name]
    sizes = {"n": films, "k": len(info.findings)}
    if name == "features" and info.ood is not None:
        sizes["d"] = len(info.ood.mean)
    shapes = zip(wanted, values.shape, strict=False)
    if values.ndim != len(wanted) or any(sizes.get(letter, got) != got for letter, got in shapes):
        raise BundleError(
            f"Bundle member {member!r} has shape {values.shape}, which disagrees with {films} tiles, the "
            f"{len(info.findings)} findings or the features of bundle.json. Make the bundle again."
        )
    if not np.isfinite(values).all():
        raise BundleError(f"Bundle member {member!r} holds values that are not numbers. Make the bundle again.")
    return values


def _npy(values: Array) -> bytes:
    target = io.BytesIO()
    np.lib.format.write_array(target, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
    return target.getvalue()


def _array(content: bytes, member: str, kind: np.dtype[np.generic]) -> Array:
    """An array from ``.npy`` bytes; the shape is held against the length before anything is allocated."""
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("unknown version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
    except (ValueError, SyntaxError, TypeError, RecursionError) as error:
        raise BundleError(f"Bundle member {member!r} is no array ({error}). Make the bundle again.") from None
    count = 1
    for length in shape:
        count *= length
    if dtype != kind or fortran or min(shape, default=0) < 0 or count * kind.itemsize != len(content) - stream.tell():
        raise BundleError(
            f"Bundle member {member!r} is {dtype} {shape} in {len(content):,} bytes, but must be a whole {kind} array. "
            "Make the bundle again."
        )
    return np.frombuffer(content, dtype=kind, offset=stream.tell()).reshape(shape)
