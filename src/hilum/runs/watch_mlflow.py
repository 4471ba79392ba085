"""Epochs as MLflow metrics; where the tracking server is, MLflow reads from its own settings."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hilum.errors import MissingExtra
from hilum.runs.watching import numbers


class MLflow:
    """One MLflow run of the run folder's name, with metrics ``member1.loss`` and so on.

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
        self._mlflow.start_run(run_name=run.name)

    def row(self, member: int, row: Mapping[str, Any]) -> None:
        """Log the numbers of the row."""
        values = {f"member{member + 1}.{name}": value for name, value in numbers(row).items()}
        self._mlflow.log_metrics(values, step=row["step"])

    def close(self) -> None:
        """End the MLflow run."""
        self._mlflow.end_run()
