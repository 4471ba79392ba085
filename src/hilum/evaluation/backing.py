"""What a number was computed from: scores, one row a film and column, written beside the JSON that holds the number.

Audits ask models of their own, and heat maps are gone once a run is evaluated, so ``predictions.parquet`` says nothing
of them. Their scores do: whoever has them can redo value, interval and p-value (:mod:`hilum.evaluation.redo`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hilum.arrays import Array, Indices, Vector
from hilum.errors import DataError

SHUFFLED = "mean AUROC with shuffled labels"
"""Column of what chance gives: one row a shuffle, of no film."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Columns of the same films side by side.

    Attributes:
        film_ids: n ids; empty texts where they weren't told.
        patient_ids: n ids.
        truth: n texts: the finding, or the level of a group, that each film has.
        classes: [n] their numbers.
        columns: m names.
        values: float64 [n, m].
    """

    film_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    truth: tuple[str, ...]
    classes: Indices
    columns: tuple[str, ...]
    values: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backing:
    """Scores behind a number.

    Attributes:
        film_ids: of each row the film's SHA-256; empty for a row of no film, or where ids weren't told.
        patient_ids: its patient.
        truth: what it has, such as a finding or the level of a group.
        classes: the same as a number; −1 where it isn't known.
        column: what the value is, such as ``score: covid-19``.
        value: float64.
    """

    film_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    truth: tuple[str, ...]
    classes: Indices
    column: tuple[str, ...]
    value: Vector

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Vector],
        patient_ids: Sequence[str],
        *,
        film_ids: Sequence[str] = (),
        truth: Sequence[str] = (),
        classes: Indices | None = None,
    ) -> "Backing":
        """Columns of the same n films.

        Args:
            columns: name → [n] values.
            patient_ids: n ids.
            film_ids: n ids, or none.
            truth: n texts, or none.
            classes: [n]; −1 for all when None.
        """
        n, m = len(patient_ids), len(columns)
        values = [np.asarray(values, dtype=np.float64) for values in columns.values()]
        return cls(
            film_ids=tuple(film_ids or [""] * n) * m,
            patient_ids=tuple(patient_ids) * m,
            truth=tuple(truth or [""] * n) * m,
            classes=np.tile(np.full(n, -1, np.int64) if classes is None else np.asarray(classes, np.int64), m),
            column=tuple(name for name in columns for _ in range(n)),
            value=np.concatenate(values) if values else np.zeros(0),
        )

    @classmethod
    def single(cls, column: str, values: Vector) -> "Backing":
        """Values of no film, such as what shuffled labels give."""
        return cls.of({column: values}, [""] * len(values))

    def __add__(self, other: "Backing") -> "Backing":
        return together([self, other])

    def __len__(self) -> int:
        return len(self.value)

    def of_films(self, film_ids: Sequence[str], truth: Sequence[str], classes: Indices) -> "Backing":
        """The same rows, each column of the n given films."""
        m = len(self) // max(1, len(film_ids))
        return replace(
            self, film_ids=tuple(film_ids) * m, truth=tuple(truth) * m, classes=np.tile(np.asarray(classes), m)
        )

    def of_truth(self, truth: str) -> "Backing":
        """The rows of films that have this."""
        rows = [i for i, text in enumerate(self.truth) if text == truth]
        return Backing(
            film_ids=tuple(self.film_ids[i] for i in rows),
            patient_ids=tuple(self.patient_ids[i] for i in rows),
            truth=(truth,) * len(rows),
            classes=self.classes[rows],
            column=tuple(self.column[i] for i in rows),
            value=self.value[rows],
        )

    def scored(self, start: str) -> Scored:
        """The columns whose names begin so, without that beginning, in the order of the file.

        Raises:
            DataError: there is none, or they aren't of the same films.
        """
        names = tuple(dict.fromkeys(name for name in self.column if name.startswith(start)))
        if not names:
            raise DataError(f"No column begins with {start!r}: there are {sorted(set(self.column))}.")
        column = np.asarray(self.column)
        rows = [np.flatnonzero(column == name) for name in names]
        if len({len(some) for some in rows}) > 1:
            raise DataError(f"Columns {list(names)} are of different films, so they don't stand side by side.")
        first = rows[0].tolist()
        return Scored(
            film_ids=tuple(self.film_ids[i] for i in first),
            patient_ids=tuple(self.patient_ids[i] for i in first),
            truth=tuple(self.truth[i] for i in first),
            classes=self.classes[rows[0]],
            columns=tuple(name.removeprefix(start) for name in names),
            values=np.column_stack([self.value[some] for some in rows]),
        )


def together(parts: Sequence[Backing]) -> Backing:
    """All rows of several, one after another."""
    return Backing(
        film_ids=tuple(text for part in parts for text in part.film_ids),
        patient_ids=tuple(text for part in parts for text in part.patient_ids),
        truth=tuple(text for part in parts for text in part.truth),
        classes=np.concatenate([np.zeros(0, np.int64), *(part.classes for part in parts)]),
        column=tuple(text for part in parts for text in part.column),
        value=np.concatenate([np.zeros(0), *(part.value for part in parts)]),
    )


Key = tuple[str, str]
"""Name of a number, and what it is about."""


def write_backings(path: Path, backings: Mapping[Key, Backing]) -> None:
    """Write the scores behind many numbers as one Parquet table, atomically; :func:`read_backings` gives them back."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hilum.files import replacing

    def told(texts: list[str]) -> pa.Array:
        return pa.array(texts, pa.string()).dictionary_encode()

    keys = [key for key, backing in backings.items() for _ in range(len(backing))]
    every = list(backings.values())
    table = pa.table(
        {
            "name": told([name for name, _ in keys]),
            "about": told([about for _, about in keys]),
            "column": told([text for backing in every for text in backing.column]),
            "film_id": told([text for backing in every for text in backing.film_ids]),
            "patient_id": told([text for backing in every for text in backing.patient_ids]),
            "truth": told([text for backing in every for text in backing.truth]),
            "class": np.concatenate([np.zeros(0, np.int64), *(backing.classes for backing in every)]),
            "value": np.concatenate([np.zeros(0), *(backing.value for backing in every)]),
        }
    )
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_backings(path: Path) -> dict[Key, Backing]:
    """Read what :func:`write_backings` wrote.

    Raises:
        DataError: the file is no such table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("name", "about", "column", "film_id", "patient_id", "truth")
    try:
        table = pq.read_table(path)
        texts = {name: table[name].to_pylist() for name in names}
        classes, value = table["class"].to_numpy(), table["value"].to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} holds no scores behind numbers ({error}). Evaluate the run again.") from None
    rows: dict[Key, list[int]] = {}
    for i, key in enumerate(zip(texts["name"], texts["about"], strict=True)):
        rows.setdefault(key, []).append(i)
    return {
        key: Backing(
            film_ids=tuple(texts["film_id"][i] for i in some),
            patient_ids=tuple(texts["patient_id"][i] for i in some),
            truth=tuple(texts["truth"][i] for i in some),
            classes=classes[some],
            column=tuple(texts["column"][i] for i in some),
            value=value[some],
        )
        for key, some in rows.items()
    }
