"""Epochs as TensorBoard scalars, in ``tensorboard/`` of the run's folder: ``tensorboard --logdir runs``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hilum.errors import MissingExtra
from hilum.runs.watching import numbers


class TensorBoard:
    """Writes scalars ``member1/loss`` and so on.

    Args:
        run: the run's folder.

    Raises:
        MissingExtra: tensorboard is not installed.
    """

    def __init__(self, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtra("tensorboard", "--watch tensorboard") from None
        self._writer: Any = SummaryWriter(str(run / "tensorboard"))

    def row(self, member: int, row: Mapping[str, Any]) -> None:
        """Write a scalar for each number of the row."""
        for name, value in numbers(row).items():
            self._writer.add_scalar(f"member{member + 1}/{name}", value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
