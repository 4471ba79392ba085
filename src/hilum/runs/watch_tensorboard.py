"""Epochs as TensorBoard scalars, in ``tensorboard/`` of the run's folder: ``tensorboard --logdir runs``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hilum.errors import MissingExtra
from hilum.runs.watching import numbers


class TensorBoard:
    """Writes scalars ``loss`` and so on, for each member into a folder of its own: ``member1``, ``member2`` ….

    TensorBoard is told at which step a member goes on, so epochs that a kill made to be repeated replace the earlier
    ones.

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
        self._open: Callable[..., Any] = SummaryWriter
        self._folder = run / "tensorboard"
        self._writers: dict[int, Any] = {}

    def row(self, member: int, row: Mapping[str, Any]) -> None:
        """Write a scalar for each number of the row."""
        if member not in self._writers:
            folder = self._folder / f"member{member + 1}"
            self._writers[member] = self._open(str(folder), purge_step=row["step"])
        for name, value in numbers(row).items():
            self._writers[member].add_scalar(name, value, row["step"])
        self._writers[member].flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
