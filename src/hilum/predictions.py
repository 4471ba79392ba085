"""Predictions: what a classifier said of films, beside what is known of them. The currency of all evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hilum.arrays import Array, Indices, Scores, Vector
from hilum.errors import DataError
from hilum.labels import Findings

GROUPS = ("source", "view_position", "sex", "age_band", "device")
"""Columns that tables and subgroups are made by; ``not recorded`` is a level of its own."""

NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Scores for n films and k findings.

    Attributes:
        findings: the k findings, in column order.
        film_ids: n SHA-256 digests of the files.
        patient_ids: n patient ids (pseudonyms); intervals resample by them.
        logits: float64 [n, k], before calibration; mean over members for an ensemble.
        probs: float64 [n, k], calibrated when the model is; rows sum to 1.
        targets: float64 [n, k], one-hot; rows of NaN where the label is unknown.
        groups: for each of :data:`GROUPS`, n texts.
        uncertainty: named vectors [n], such as ``mutual_information`` and ``ood_distance``; may be empty.

    Raises:
        DataError: lengths or shapes that disagree.
    """

    findings: Findings
    film_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    logits: Scores
    probs: Scores
    targets: Scores
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    uncertainty: Mapping[str, Vector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k = len(self.film_ids), len(self.findings)
        for name in ("logits", "probs", "targets"):
            shape = getattr(self, name).shape
            if shape != (n, k):
                raise DataError(f"Predictions of {n} films and {k} findings need {name} [{n}, {k}], but got {shape}.")
        columns = {"patient_ids": self.patient_ids, **self.groups, **self.uncertainty}
        wrong = [f"{name} has {len(values)}" for name, values in columns.items() if len(values) != n]
        if wrong:
            raise DataError(f"Predictions of {n} films: {', '.join(wrong)} values. Give one a film.")

    def __len__(self) -> int:
        return len(self.film_ids)

    @property
    def labelled(self) -> "Predictions":
        """The films whose label is known; the predictions themselves where all are."""
        known = ~np.isnan(self.targets).any(axis=1)
        return self if known.all() else self.select(np.flatnonzero(known))

    def select(self, rows: Indices) -> "Predictions":
        """The given rows, in the given order (repeats allowed)."""
        return replace(
            self,
            film_ids=tuple(self.film_ids[i] for i in rows),
            patient_ids=tuple(self.patient_ids[i] for i in rows),
            logits=self.logits[rows],
            probs=self.probs[rows],
            targets=self.targets[rows],
            groups={name: tuple(values[i] for i in rows) for name, values in self.groups.items()},
            uncertainty={name: values[rows] for name, values in self.uncertainty.items()},
        )

    def write(self, path: Path) -> None:
        """Write one row a film as Parquet, atomically; :meth:`read` gives the same value back."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from hilum.files import replacing

        columns: dict[str, object] = {"film_id": list(self.film_ids), "patient_id": list(self.patient_ids)}
        for kind in ("logits", "probs", "targets"):
            values: Array = getattr(self, kind)
            columns |= {f"{kind}.{name}": values[:, i] for i, name in enumerate(self.findings.names)}
        columns |= {f"group.{name}": list(values) for name, values in self.groups.items()}
        columns |= {f"uncertainty.{name}": values for name, values in self.uncertainty.items()}
        with replacing(path) as temporary:
            pq.write_table(pa.table(columns), temporary)

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read what :meth:`write` wrote.

        Raises:
            DataError: the file is not a table of predictions.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} can't be read as Parquet ({error}). Give a run's predictions.") from None
        names = [name.removeprefix("logits.") for name in table.column_names if name.startswith("logits.")]
        if not names or "film_id" not in table.column_names:
            raise DataError(f"{path} holds no predictions (columns: {', '.join(table.column_names)}).")

        def scores(kind: str) -> Scores:
            return np.column_stack([table[f"{kind}.{name}"].to_numpy() for name in names]).astype(np.float64)

        def prefixed(prefix: str) -> dict[str, str]:
            return {name.removeprefix(prefix): name for name in table.column_names if name.startswith(prefix)}

        return cls(
            findings=Findings(tuple(names)),
            film_ids=tuple(table["film_id"].to_pylist()),
            patient_ids=tuple(table["patient_id"].to_pylist()),
            logits=scores("logits"),
            probs=scores("probs"),
            targets=scores("targets"),
            groups={name: tuple(table[column].to_pylist()) for name, column in prefixed("group.").items()},
            uncertainty={name: table[column].to_numpy() for name, column in prefixed("uncertainty.").items()},
        )
