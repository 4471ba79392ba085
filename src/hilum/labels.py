"""Findings: the ordered names that a classifier tells apart, and targets made from labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Scores
from hilum.errors import LabelError, UsageError, nearest


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings in the order of the network's outputs.

    Findings are mutually exclusive: a film has exactly one, or its label is unknown.

    Attributes:
        names: at least two distinct, non-empty names.

    Raises:
        UsageError: fewer than two names, an empty one, or one twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise UsageError(f"Findings need at least two names, but got {list(self.names)}. Name every class.")
        if any(not name.strip() for name in self.names) or len(set(self.names)) != len(self.names):
            raise UsageError(f"Findings must be distinct and not empty, but got {list(self.names)}. Rename them.")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Column of a finding.

        Raises:
            LabelError: the name is not one of the findings; the message lists them, the nearest first.
        """
        if name not in self.names:
            raise LabelError(f"Label {name!r} is not a finding. {nearest(name, self.names)}")
        return self.names.index(name)

    def targets(self, labels: Sequence[str | None]) -> Scores:
        """One-hot targets.

        Args:
            labels: n names; ``None`` or ``""`` where the label is unknown.

        Returns:
            float64 [n, k] of 0 and 1; a row of NaN where the label is unknown.

        Raises:
            LabelError: a label is not one of the findings.
        """
        targets = np.zeros((len(labels), len(self)), dtype=np.float64)
        for row, label in enumerate(labels):
            if not label:
                targets[row] = np.nan
            else:
                targets[row, self.index(label)] = 1.0
        return targets

    def name(self, column: int) -> str:
        """Name of a column."""
        return self.names[column]


CHEST = Findings(("normal", "pneumonia", "covid-19"))
"""The clinic's three findings, in the order of every chest bundle's outputs."""
