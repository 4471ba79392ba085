"""The evidence of a change: three models' answers on the locked test set, training data and speed of the candidate.

It lies in a folder whose ``evidence.json`` names every other file with its digest; a file that differs is refused.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hilum.change.plan import ChangeType
from hilum.config import canonical_json, from_mapping
from hilum.errors import DataError
from hilum.files import write_bytes
from hilum.predictions import Predictions

EVIDENCE = "evidence.json"
ROLES = ("candidate", "current", "first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What ``evidence.json`` says."""

    change: ChangeType
    """What kind of change it is."""
    update: int
    """Which update under the plan it is: 1, 2, 3 …"""
    models: dict[str, str]
    """Digest of the bundle of ``candidate``, ``current`` and ``first``."""
    name: str
    """The candidate's name."""
    version: str
    """The candidate's version."""
    architecture: str
    """Its backbone."""
    current_architecture: str
    """The current model's."""
    test_fingerprint: str
    """Fingerprint of the films that all three answered."""
    latency_p95_ms: float
    """95th percentile of the candidate's time for one film."""
    machine: str
    """What that was measured on."""
    trained_by: str
    """Who trained it: a name, as in the plan where it is an approver's."""
    reason: str
    """Why the change is made, in one or two sentences."""
    trigger: str = ""
    """What set it off, in a sentence; empty when it was made by hand."""
    recipe: str = ""
    """Fingerprint of the recipe."""
    training_fingerprint: str = ""
    """Fingerprint of what it was trained on."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every other file of the folder, by name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Evidence whose files were checked."""

    facts: Facts
    """What it says of itself."""
    candidate: Predictions
    """The candidate's answers."""
    current: Predictions
    """The current model's answers to the same films."""
    first: Predictions
    """The first approved model's."""
    training_patients: frozenset[str]
    """Pseudonyms of the patients that the candidate was trained on, from their first film for ever."""
    training_films: frozenset[str]
    """SHA-256 of the films."""

    def __post_init__(self) -> None:
        for role in ROLES[1:]:
            other: Predictions = getattr(self, role)
            if other.film_ids != self.candidate.film_ids or other.findings != self.candidate.findings:
                raise DataError(
                    f"Candidate and {role} model answered other films or findings, so they can't be compared film by "
                    "film. Predict the same locked test set with both."
                )
            if not np.array_equal(other.targets, self.candidate.targets, equal_nan=True):
                raise DataError(
                    f"The labels of the {role} model's films differ from the candidate's. Use one labelling."
                )

    @property
    def sha256(self) -> str:
        """Digest of what it says, and through its files' digests of all of it."""
        return hashlib.sha256(canonical_json(self.facts).encode()).hexdigest()


def write_evidence(
    folder: Path, facts: Facts, evidence: dict[str, Predictions], training: dict[str, list[str]]
) -> None:
    """Write a folder of evidence.

    Args:
        folder: where; made when absent.
        facts: what it says; ``files`` is filled here.
        evidence: predictions by role.
        training: ``patients`` (pseudonyms) and ``films`` (digests) of the candidate's training.
    """
    from dataclasses import replace

    folder.mkdir(parents=True, exist_ok=True)
    for role in ROLES:
        evidence[role].write(folder / f"{role}.parquet")
    listing = {name: sorted(set(values)) for name, values in training.items()}
    write_bytes(folder / "training.json", canonical_json(listing).encode())
    names = [*(f"{role}.parquet" for role in ROLES), "training.json"]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    write_bytes(folder / EVIDENCE, canonical_json(replace(facts, files=digests)).encode())


def read_evidence(folder: Path) -> Evidence:
    """Read and check a folder of evidence.

    Raises:
        DataError: a file is missing or differs from its digest, or the models answered other films.
        ConfigError: ``evidence.json`` has unknown keys or wrong values.
    """
    facts = from_mapping(Facts, _json(folder / EVIDENCE), where=EVIDENCE)
    wanted = {*(f"{role}.parquet" for role in ROLES), "training.json"}
    if missing := sorted(wanted - set(facts.files)):
        raise DataError(f"{EVIDENCE} names no digest of {', '.join(missing)}. Write the evidence again.")
    if missing := sorted(set(ROLES) - set(facts.models)):
        raise DataError(f"{EVIDENCE} names no model as {', '.join(missing)}. Write the evidence again.")
    for name, digest in sorted(facts.files.items()):
        _check(folder, name, digest)
    training = _json(folder / "training.json")
    found = {role: Predictions.read(folder / f"{role}.parquet") for role in ROLES}
    return Evidence(
        facts=facts,
        training_patients=frozenset(training.get("patients", ())),
        training_films=frozenset(training.get("films", ())),
        **found,
    )


def _check(folder: Path, name: str, digest: str) -> None:
    if Path(name).name != name:
        raise DataError(f"{EVIDENCE} names the file {name!r}, which lies outside its folder. Write the evidence again.")
    try:
        there = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{folder / name} can't be read ({error.strerror}). Write the evidence again.") from None
    if there != digest:
        raise DataError(
            f"{folder / name} has the digest {there[:12]}…, but {EVIDENCE} says {digest[:12]}…: it was changed."
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON ({type(error).__name__}). Write the evidence again.") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} holds {type(values).__name__}, not an object.")
    return values
