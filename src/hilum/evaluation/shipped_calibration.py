"""The calibration that a run takes and its bundle carries: chosen by likelihood among those that a graph can hold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np

from hilum.arrays import Array, Scores
from hilum.config import from_mapping, to_mapping
from hilum.evaluation.calibrators import SMALLEST, Choice, Method, Scaling, Sigmoids, choose, fit

CARRIED: tuple[Method, ...] = ("none", "temperature", "vector", "platt")
"""Ways that the exported graph can hold; isotonic regression is a step function, whose jumps would make of a runtime's
rounding another answer."""

MOST_LOG = math.log(10.0)
"""Largest logarithm of a local temperature: a site that needs more needs other weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedCalibration:
    """How a run makes probabilities of its members' logits.

    Attributes:
        method: one of :data:`CARRIED`.
        calibrator: the fitted way; the same for every member, whose probabilities are averaged.
    """

    method: Method
    calibrator: Scaling | Sigmoids

    @classmethod
    def fitted(cls, logits: Array, targets: Scores, patient_ids: tuple[str, ...], *, seed: int) -> Self:
        """Choose among :data:`CARRIED` by cross-validated likelihood, and fit the chosen way.

        Where a class has too few patients to choose, it is a temperature, or what is left of one.

        Args:
            logits: [m, n, k] of the members that did not fit the films.
            targets: [n, k] one-hot, NaN where unknown.
            patient_ids: n ids.
            seed: of the folds.
        """
        chosen: Choice = choose(logits.mean(axis=0), targets, patient_ids, methods=CARRIED, seed=seed)
        method: Method = chosen.method if chosen.folds else "temperature"
        made = fit(method, np.concatenate(list(logits)), np.tile(targets, (len(logits), 1)))
        return cls(method=method, calibrator=cast(Scaling | Sigmoids, made))

    @classmethod
    def of(cls, result: Mapping[str, Any], findings: int) -> Self:
        """As ``result.json`` holds it; a run of before has a temperature alone."""
        if "calibration" not in result:
            weight = 1 / float(result["temperature"]["value"])
            made = Scaling(weights=(weight,) * findings, biases=(0.0,) * findings)
            return cls(method="temperature", calibrator=made)
        told = dict(result["calibration"])
        method: Method = told.pop("method")
        where = "result.json.calibration"
        if "slopes" in told:
            return cls(method=method, calibrator=from_mapping(Sigmoids, told, where=where))
        return cls(method=method, calibrator=from_mapping(Scaling, told, where=where))

    def to_json(self) -> dict[str, Any]:
        """For ``result.json``."""
        return {"method": self.method, **to_mapping(self.calibrator)}

    def probs(self, logits: Array) -> Scores:
        """Probabilities [n, k]: the mean over members of logits [m, n, k]."""
        probs: Scores = np.mean([self.calibrator.probs(member) for member in logits], axis=0)
        return probs

    def at_temperature(self, value: float) -> Self:
        """The same with what goes into the softmax (or the sigmoids) divided by a temperature > 0.

        The order of the findings stays for the softmax; of sigmoids' shares it may change a little.
        """
        made = self.calibrator
        if isinstance(made, Sigmoids):
            slopes, intercepts = (tuple(one / value for one in row) for row in (made.slopes, made.intercepts))
            return replace(self, calibrator=replace(made, slopes=slopes, intercepts=intercepts))
        weights, biases = (tuple(one / value for one in row) for row in (made.weights, made.biases))
        method: Method = "temperature" if self.method == "none" else self.method
        return replace(self, method=method, calibrator=replace(made, weights=weights, biases=biases))

    def local_temperature(self, logits: Array, targets: Scores) -> float:
        """The temperature that makes a site's films most likely, on top of this calibration.

        Args:
            logits: [m, n, k] of all members; none of them was fitted on these films.
            targets: [n, k] one-hot.

        Returns:
            within 1/10 … 10.

        Source: Guo et al. 2017, On calibration of modern neural networks (ICML).
        """
        from scipy.optimize import minimize_scalar

        truth = targets.astype(bool)

        def loss(log_value: float) -> float:
            shares = self.at_temperature(math.exp(log_value)).probs(logits)[truth]
            return float(-np.log(np.maximum(shares, SMALLEST)).mean())

        found = minimize_scalar(loss, bounds=(-MOST_LOG, MOST_LOG), method="bounded", options={"xatol": 1e-6})
        return math.exp(float(found.x))

    @property
    def temperature(self) -> float | None:
        """What logits are divided by; None for other ways."""
        made = self.calibrator
        return 1 / made.weights[0] if self.method == "temperature" and isinstance(made, Scaling) else None

    @property
    def sentence(self) -> str:
        """What is done to the logits, with its numbers."""
        made = self.calibrator
        if isinstance(made, Sigmoids):
            return (
                f"Each finding's log-odds are multiplied by {_list(made.slopes)}, {_list(made.intercepts)} is added, "
                "and the sigmoids are divided by their sum (Platt)."
            )
        if self.method == "none":
            return "Logits go into the softmax as they are."
        if self.temperature is not None:
            return f"Logits are divided by the temperature {self.temperature:.3f} before the softmax."
        return (
            f"Each finding's logit is multiplied by {_list(made.weights)} and {_list(made.biases)} is added before the "
            "softmax (vector scaling)."
        )


def _list(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.3f}" for value in values)
