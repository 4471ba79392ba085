"""Plans, keys and synthetic evidence: scores of three findings with a chosen AUROC, alike between models."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scipy.special import ndtri

from hilum.change.evidence import Evidence, Facts
from hilum.change.plan import Approvals, Approver, CalibrationBand, LockedTest, NonInferiority, Plan, Scope
from hilum.keys import PrivateKey
from hilum.labels import Findings
from hilum.predictions import Predictions

FINDINGS = ("normal", "pneumonia", "covid-19")
TEST = "7" * 64


def key(number: int) -> PrivateKey:
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


NAMES = ("quality manager", "lead radiologist", "physicist")


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "schema": 1,
        "name": "chest classifier",
        "version": "1",
        "intended_use": "Assists the reading of adult frontal chest films.",
        "scope": Scope(findings=FINDINGS),
        "test_set": LockedTest(fingerprint=TEST),
        "non_inferiority": NonInferiority(margin=0.03),
        "approvals": Approvals(
            approvers=tuple(Approver(name=n, key=key(i + 1).public.raw.hex()) for i, n in enumerate(NAMES))
        ),
        "calibration": CalibrationBand(largest_gap=0.5, largest_ece=1.0),
        "operating_points": {"pneumonia": 0.3, "covid-19": 0.3},
    }
    return Plan(**values | changes)


FACTS = Facts(
    change="retrained",
    update=1,
    models={"candidate": "c" * 64, "current": "b" * 64, "first": "a" * 64},
    name="chest",
    version="2",
    architecture="densenet121",
    current_architecture="densenet121",
    test_fingerprint=TEST,
    latency_p95_ms=80.0,
    machine="a processor",
    trained_by="data scientist",
    reason="A new scanner came.",
)


def classes(n: int, chance: np.random.Generator) -> np.ndarray:
    return chance.choice(3, n, p=(0.5, 0.3, 0.2))


def probs(truth: np.ndarray, auroc: float, common: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Probabilities whose one-vs-rest AUROCs are near the given one and alike between models that share ``common``."""
    distance = float(np.sqrt(2) * ndtri(auroc))
    logits = 0.8 * common + 0.6 * chance.normal(size=common.shape)
    logits[np.arange(len(truth)), truth] += distance
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def predictions(
    truth: np.ndarray, values: np.ndarray, *, groups: dict[str, Sequence[str]] | None = None
) -> Predictions:
    n = len(truth)
    return Predictions(
        findings=Findings(FINDINGS),
        film_ids=tuple(f"{i:064x}" for i in range(n)),
        patient_ids=tuple(f"p{i}" for i in range(n)),
        logits=np.log(values),
        probs=values,
        targets=np.eye(3)[truth],
        groups={name: tuple(column) for name, column in (groups or {}).items()},
    )


def evidence(
    n: int = 1500,
    *,
    candidate: float = 0.9,
    current: float = 0.9,
    first: float = 0.9,
    seed: int = 0,
    groups: dict[str, Sequence[str]] | None = None,
    **facts: Any,
) -> Evidence:
    chance = np.random.default_rng(seed)
    truth, common = classes(n, chance), chance.normal(size=(n, 3))
    three = (predictions(truth, probs(truth, a, common, chance), groups=groups) for a in (candidate, current, first))
    return Evidence(
        **dict(zip(("candidate", "current", "first"), three, strict=True)),
        facts=replace(FACTS, **facts),
        training_patients=frozenset({"t1"}),
        training_films=frozenset({"e" * 64}),
    )
