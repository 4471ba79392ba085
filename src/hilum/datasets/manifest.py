"""The manifest: a typed table of films, one row a film, kept as Parquet.

Every manifest has the columns of :data:`hilum.datasets.columns.COLUMNS`; what is not known is blank (""), NaN or the
column's blank integer. Work on it is columnar, so that a million films are a matter of seconds.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import normpath
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hilum.arrays import Array, Indices, Scores
from hilum.datasets.columns import COLUMNS, PARTS, THUMB_SIDE, WHERE, age_bands
from hilum.errors import ManifestError, UsageError, nearest
from hilum.files import replacing
from hilum.labels import CHEST, Findings
from hilum.predictions import GROUPS, NOT_RECORDED

NOTES = b"hilum.notes"
"""Key of the Parquet schema's metadata that holds a manifest's notes as JSON."""

ARROW = {"text": pa.string(), "number": pa.float64(), "integer": pa.int64(), "vector": pa.large_binary()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Films and what is known of them. Make one with :meth:`from_columns` or :meth:`read`.

    Attributes:
        table: one row a film, with every column of ``COLUMNS`` and perhaps others, as text.
        folder: what relative paths in ``path`` and ``mask`` are relative to.
        notes: JSON values that travel with the table, such as how it was split.
    """

    table: pa.Table
    folder: Path
    notes: Mapping[str, Any]

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Any], *, folder: Path, notes: Mapping[str, Any] | None = None
    ) -> "Manifest":
        """Build a manifest from columns of equal length; the ones not given are blank.

        Args:
            columns: name → n values (list, NumPy array or pyarrow array); None and null are blank. ``thumb`` is
                uint8 [n, THUMB_SIDE, THUMB_SIDE] or n bytes or None.
            folder: what relative paths are relative to.
            notes: JSON values to travel with the table.

        Raises:
            ManifestError: ``path`` is missing, lengths differ, or values are of a wrong kind; all at once.
        """
        given = {name: _arrow(name, values) for name, values in columns.items()}
        problems = [array for array in given.values() if isinstance(array, str)]
        lengths = {name: len(array) for name, array in given.items() if not isinstance(array, str)}
        if "path" not in given:
            problems.append(f"A manifest needs the column 'path', but has {', '.join(given) or 'no column'}. Add it.")
        elif len(set(lengths.values())) > 1:
            problems.append(f"The columns of a manifest must be of one length, but are {lengths}. Give a value a film.")
        if problems:
            raise ManifestError(problems)
        n = lengths["path"]
        ordered = {name: given.get(name, _blank(name, n)) for name in COLUMNS}
        ordered |= {name: array for name, array in given.items() if name not in COLUMNS}
        return cls(table=pa.table(ordered), folder=Path(folder), notes=dict(notes or {}))

    @classmethod
    def read(cls, path: str | Path, *, thumbs: bool = True) -> "Manifest":
        """Read what :meth:`write` wrote.

        Args:
            path: a Parquet file.
            thumbs: whether to read the perceptual thumbs too; they take 4 KiB a film.

        Raises:
            ManifestError: the file is missing, is not Parquet, or its columns are of a wrong kind.
        """
        path = Path(path)
        if path.is_dir():
            mend = f"Make one of the films in it with hilum data import {path} --out manifest.parquet."
            raise ManifestError([f"{path} is a folder, not a manifest. {mend}"])
        if not path.is_file():
            raise ManifestError([f"{path} is not a file. Make a manifest with hilum data import FOLDER --out {path}."])
        try:
            names = [name for name in pq.read_schema(path).names if thumbs or name != "thumb"]
            table = pq.read_table(path, columns=names)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            mend = "Make a manifest of a folder of films, or of a CSV that lists them, with hilum data import."
            raise ManifestError([f"{path} can't be read as Parquet ({reason.rstrip('.')}). {mend}"]) from None
        notes = json.loads((table.schema.metadata or {}).get(NOTES, b"{}"))
        columns = {name: table[name] for name in table.column_names}
        try:
            return cls.from_columns(columns, folder=path.absolute().parent, notes=notes)
        except ManifestError as error:
            raise ManifestError([f"{path}: {problem}" for problem in error.problems]) from None

    def write(self, path: str | Path) -> Path:
        """Write as Parquet, atomically; files below the manifest's folder are kept as relative paths.

        Returns:
            the path written.
        """
        path = Path(path)
        moved = self.in_folder(path.absolute().parent)
        metadata = {NOTES: json.dumps(dict(self.notes), ensure_ascii=False, allow_nan=False).encode()}
        with replacing(path) as temporary:
            # Thumbs are noise to a compressor; the rest is small.
            pq.write_table(moved.table.replace_schema_metadata(metadata), temporary, compression="zstd")
        return path

    def in_folder(self, folder: Path) -> "Manifest":
        """The same films, with paths relative to another folder where they lie below it, absolute elsewhere."""
        old, new = f"{normpath(self.folder.absolute())}/", f"{normpath(folder.absolute())}/"
        columns = {name: [_moved(path, old, new) for path in self.strings(name)] for name in WHERE}
        return replace(self, table=self._replaced(columns), folder=Path(new))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> Array:
        """One column as a NumPy array [n]: str objects, float64 or int64.

        Raises:
            UsageError: no column has that name.
        """
        array = self._column(name)
        if name == "thumb":
            raise UsageError("The column 'thumb' holds vectors, not one value a film. Ask for .thumbs() instead.")
        return np.asarray(array.to_numpy(zero_copy_only=False))

    def strings(self, name: str) -> list[str]:
        """A text column as a list; blanks are "".

        Raises:
            UsageError: no column has that name.
        """
        return list(self._column(name).to_pylist())

    def codes(self, name: str) -> tuple[Indices, tuple[str, ...]]:
        """A text column as numbers: what tables and groups are computed from.

        Returns:
            (int64 [n] positions in the levels, the distinct values in alphabetical order; blank is "").

        Raises:
            UsageError: no column has that name.
        """
        encoded = self._column(name).dictionary_encode()
        order = pc.array_sort_indices(encoded.dictionary)  # by bytes of UTF-8, which is the order of code points
        rank = np.empty(len(order), dtype=np.int64)
        rank[order.to_numpy()] = np.arange(len(order))
        levels = tuple(encoded.dictionary.take(order).to_pylist())
        return rank[encoded.indices.to_numpy(zero_copy_only=False)], levels

    def thumbs(self) -> tuple[Indices, Array]:
        """Perceptual thumbs of the films that have one.

        Returns:
            (int64 [m] rows, uint8 [m, THUMB_SIDE, THUMB_SIDE]).
        """
        column = self._column("thumb")
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        content = b"".join(column.drop_null().to_pylist())
        return rows, np.frombuffer(content, dtype=np.uint8).reshape(len(rows), THUMB_SIDE, THUMB_SIDE)

    def select(self, rows: Indices | Sequence[int]) -> "Manifest":
        """The given rows, in the given order (repeats allowed)."""
        return replace(self, table=self.table.take(pa.array(np.asarray(rows, dtype=np.int64))))

    def rows(self, *, part: str | None = None, fold: int | None = None) -> Indices:
        """Row numbers of a part, of a fold, or of both together.

        Raises:
            UsageError: a part that splits don't have.
        """
        if part is not None and part not in PARTS:
            raise UsageError(f"Part {part!r} is not one of a split's. {nearest(part, PARTS)}")
        wanted = np.ones(len(self), dtype=bool)
        if part is not None:
            wanted &= self.column("part") == part
        if fold is not None:
            wanted &= self.column("fold") == fold
        return np.flatnonzero(wanted)

    def with_columns(self, **columns: Any) -> "Manifest":
        """The same films with columns replaced or added (others than ``COLUMNS`` are kept as text).

        Raises:
            ManifestError: lengths differ, or values are of a wrong kind.
        """
        return replace(self, table=self._replaced(columns))

    def with_note(self, name: str, value: Any) -> "Manifest":
        """The same films with a note (a JSON value) replaced or added."""
        return replace(self, notes={**self.notes, name: value})

    def film_paths(self) -> list[Path]:
        """Where each film lies."""
        return [self.folder / path for path in self.strings("path")]

    def mask_paths(self) -> list[Path | None]:
        """Where each film's lesion mask lies; None where there is none."""
        return [self.folder / path if path else None for path in self.strings("mask")]

    def targets(self, findings: Findings) -> Scores:
        """One-hot targets of the labels.

        Returns:
            float64 [n, k]; a row of NaN where the label is blank.

        Raises:
            LabelError: a label is not one of the findings.
        """
        codes, levels = self.codes("label")
        targets: Scores = findings.targets(levels)[codes]
        return targets

    def groups(self) -> dict[str, tuple[str, ...]]:
        """For each of ``predictions.GROUPS`` n texts; ``not recorded`` stands for blanks."""
        texts = {name: self.strings(name) for name in GROUPS if name in COLUMNS}
        texts["age_band"] = list(age_bands(self.column("age_years")))
        return {name: tuple(value or NOT_RECORDED for value in texts[name]) for name in GROUPS}

    @property
    def labels(self) -> list[str]:
        """The distinct labels: the chest findings in their own order, then others alphabetically; blank left out."""
        levels = {level for level in self.codes("label")[1] if level}
        return [name for name in CHEST.names if name in levels] + sorted(levels - set(CHEST.names))

    @property
    def fingerprint(self) -> str:
        """SHA-256, 64 hex digits, over what the table says of its films and in which part each is.

        Row order, file locations and thumbs don't change it.
        """
        order = pc.sort_indices(self.table, sort_keys=[("film_id", "ascending"), ("path", "ascending")])
        table = self.table.drop_columns([*WHERE, "thumb"]).take(order)
        digest = hashlib.sha256()
        for name in table.column_names:
            digest.update(f"\x1e{name}\x1e".encode())
            if pa.types.is_string(table.schema.field(name).type):
                digest.update("\x1f".join(table[name].to_pylist()).encode())
            else:
                digest.update(np.ascontiguousarray(table[name].to_numpy()).tobytes())
        return digest.hexdigest()

    def split(self, by: str = "patient", *, seed: int = 0, **settings: Any) -> "Manifest":
        """Lock a test part away and make folds of the rest; see :mod:`hilum.datasets.splits`.

        Args:
            by: ``patient`` (or ``patient_id``), ``time`` or ``source``.
            seed: of the split's random stream.
            settings: further fields of ``SplitConfig``.
        """
        from hilum.config import from_mapping
        from hilum.datasets.splits import SplitConfig, split

        values = {"by": by.removesuffix("_id"), "seed": seed, **settings}
        return split(self, from_mapping(SplitConfig, values, where="split"))

    def _column(self, name: str) -> pa.Array:
        if name not in self.table.column_names:
            raise UsageError(f"Manifest column {name!r} is unknown. {nearest(name, self.table.column_names)}")
        return self.table[name].combine_chunks()

    def _replaced(self, columns: Mapping[str, Any]) -> pa.Table:
        merged = {name: self.table[name] for name in self.table.column_names} | dict(columns)
        return Manifest.from_columns(merged, folder=self.folder).table


def _arrow(name: str, values: Any) -> pa.Array | str:
    """Values as the column's Arrow array without nulls (but for vectors), or a sentence saying what is wrong."""
    kind = COLUMNS[name].kind if name in COLUMNS else "text"
    try:
        if kind == "vector":
            return _vectors(values)
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=False)
        if pa.types.is_null(array.type) or pa.types.is_dictionary(array.type):
            array = array.cast(ARROW[kind])
        fits = {"text": pa.types.is_string, "number": _is_number, "integer": pa.types.is_integer}[kind]
        if not (fits(array.type) or (kind == "text" and pa.types.is_large_string(array.type))):
            return f"Column {name!r} holds {array.type}, but must be {kind}. Convert it."
        blank = {"text": "", "number": float("nan"), "integer": COLUMNS[name].blank if name in COLUMNS else 0}[kind]
        array = array.cast(ARROW[kind]).fill_null(blank)
    except (pa.ArrowException, TypeError, ValueError) as error:
        return f"Column {name!r} can't be kept as {kind} ({str(error).splitlines()[0]}). Convert it."
    return array


def _vectors(values: Any) -> pa.Array:
    if isinstance(values, np.ndarray):
        n, length = len(values), THUMB_SIDE**2
        flat = np.ascontiguousarray(values, dtype=np.uint8).reshape(n, -1)
        if n and flat.shape[1] != length:
            raise ValueError(f"{flat.shape[1]} values a film instead of {length}")
        offsets = np.arange(n + 1, dtype=np.int64) * length
        return pa.LargeBinaryArray.from_buffers(ARROW["vector"], n, [None, pa.py_buffer(offsets), pa.py_buffer(flat)])
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, ARROW["vector"])
    lengths = pc.unique(pc.binary_length(array)).drop_null().to_pylist()
    if lengths not in ([], [THUMB_SIDE**2]):
        raise ValueError(f"vectors of {lengths} bytes instead of {THUMB_SIDE**2}")
    return array.cast(ARROW["vector"])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _blank(name: str, n: int) -> pa.Array:
    column = COLUMNS[name]
    if column.kind == "vector":
        return pa.nulls(n, ARROW["vector"])
    blank = {"text": "", "number": float("nan"), "integer": column.blank}[column.kind]
    return pa.repeat(pa.scalar(blank, ARROW[column.kind]), n)


def _moved(path: str, old: str, new: str) -> str:
    # Text, not Path: a million of these take a second instead of ten. Links are kept as they are.
    whole = path if not path or path.startswith("/") else old + path
    if "/." in whole:
        whole = normpath(whole)
    return whole.removeprefix(new)
