"""Epochs as MLflow metrics; where the tracking server is, MLflow reads from its own settings."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hilum.errors import MissingExtra
from hilum.files import write_text
from hilum.runs.watching import numbers


class MLflow:
    """One MLflow run of the run folder's name, with metrics ``member1.loss`` and so on.

    Its id is kept in ``mlflow_run`` of the run's folder, so the same command goes on in the same MLflow run; epochs
    that are repeated after a kill are not logged a second time.

    Args:
        run: the run's folder.

    Raises:
        MissingExtra: mlflow is not installed.
    """

    def __init__(self, run: Path) -> None:
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
        except ModuleNotFoundError:
            raise MissingExtra("mlflow", "--watch mlflow") from None
        self._kept, self._name = run / "mlflow_run", run.name
        self._id = ""
        self._logged: dict[int, int] = {}

    def row(self, member: int, row: Mapping[str, Any]) -> None:
        """Log the numbers of the row."""
        self._begin()
        if row["step"] <= self._last_step(member):
            return
        values = {f"member{member + 1}.{name}": value for name, value in numbers(row).items()}
        self._mlflow.log_metrics(values, step=row["step"])
        self._logged[member] = row["step"]

    def _begin(self) -> None:
        """Begin an MLflow run, or go on in that of an earlier start."""
        if self._id:
            return
        known = self._kept.read_text().strip() if self._kept.exists() else None
        begun = self._mlflow.start_run(run_id=known) if known else self._mlflow.start_run(run_name=self._name)
        self._id = str(begun.info.run_id)
        write_text(self._kept, self._id + "\n")

    def _last_step(self, member: int) -> int:
        """Last epoch of a member that the MLflow run knows; 0 for none."""
        if member not in self._logged:
            history = self._mlflow.MlflowClient().get_metric_history(self._id, f"member{member + 1}.seconds")
            self._logged[member] = max((metric.step for metric in history), default=0)
        return self._logged[member]

    def close(self) -> None:
        """End the MLflow run."""
        if self._id:
            self._mlflow.end_run()
