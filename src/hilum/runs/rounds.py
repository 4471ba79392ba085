"""Versions of the training data, and the rounds of retraining that they are for: a folder a version, a chain by digest.

A version names the one before by digest and says which patients were on which side until then, so that the locked test
can be kept apart for ever (:mod:`hilum.datasets.next_version`). A round is what is made of a version: a candidate, its
answers, the evidence and the proposal, or why there is none. Each step leaves its result, so a round that was killed
goes on with the next one.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from hilum.config import Dataclass, canonical_json, from_mapping
from hilum.datasets.manifest import Manifest
from hilum.datasets.next_version import LeftOut, Sides, prove_apart, sides_of
from hilum.errors import ConfigError, DataError, RunError
from hilum.files import replacing_directory, take_lock, write_bytes
from hilum.provenance import sha256_file

VersionKind = Literal["adopted", "retrained", "recalibrated", "thresholds"]
"""``adopted``: the split of a run that was trained elsewhere; the others: what a change was made from."""

ROLES = ("candidate", "current", "first")

D = TypeVar("D", bound=Dataclass)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataVersion:
    """A version of the data, with the ledger of patients up to it."""

    number: int
    """1, 2, 3 …"""
    parent_sha256: str
    """Digest of the version before; empty for the first."""
    kind: VersionKind
    """What it is for."""
    films: str
    """Fingerprint of its manifest."""
    manifest_sha256: str
    """Digest of the manifest's file."""
    locked: tuple[str, ...]
    """Patients of the locked test, in this version or any before."""
    trained: tuple[str, ...]
    """Patients who were trained or calibrated on, in this version or any before."""
    labels: tuple[str, ...] = ()
    """Opaque ids of the films whose labels it takes in."""
    labels_sha256: str = ""
    """Digest of the version of the label set that they are from."""
    left_out: tuple[LeftOut, ...] = ()
    """Labelled films that were not drawn."""
    at: str = ""
    """When it was made, ISO 8601 in UTC."""

    @property
    def sides(self) -> Sides:
        """The ledger."""
        return Sides(locked=frozenset(self.locked), trained=frozenset(self.trained))

    @property
    def sha256(self) -> str:
        """Digest of all that it says."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round is of; written with its version, before anything is computed."""

    kind: VersionKind
    """Kind of change."""
    trigger: str
    """What set it off, in a sentence."""
    alarm: str
    """Id of the alarm that did; empty otherwise."""
    run: str
    """Folder of the current model's run."""
    run_fingerprint: str
    """Fingerprint of its weights."""
    recipe: str
    """Fingerprint of the config that the candidate is trained by."""
    current: str
    """Digest of the current model's bundle."""
    first: str
    """Digest of the first approved model's."""
    plan_sha256: str
    """Digest of the plan."""
    update: int
    """Which update under the plan it is."""
    name: str
    """Name of the candidate."""
    version: str
    """Its version; empty for the first digits of its weights' fingerprint."""
    trained_by: str
    """Who answers for the training."""
    proposer: str
    """Who signs."""
    reason: str
    """Why the change is made."""
    at: str
    """When it was begun, ISO 8601 in UTC."""

    def same_inputs(self, other: "Round") -> list[str]:
        """Names of what differs between two rounds, beside what set them off and when."""
        names = ("kind", "run_fingerprint", "current", "first", "plan_sha256", "trained_by", "proposer")
        return [name for name in names if getattr(self, name) != getattr(other, name)]


@dataclass(frozen=True, slots=True)
class RoundFolder:
    """Paths of a round.

    Attributes:
        root: its folder.
    """

    root: Path

    @property
    def version(self) -> Path:
        """The :class:`DataVersion`."""
        return self.root / "version.json"

    @property
    def films(self) -> Path:
        """Its manifest."""
        return self.root / "films.parquet"

    @property
    def about(self) -> Path:
        """The :class:`Round`; absent for an adopted version."""
        return self.root / "round.json"

    @property
    def run(self) -> Path:
        """The candidate's run."""
        return self.root / "run"

    @property
    def bundle(self) -> Path:
        """The candidate's bundle."""
        return self.root / "candidate.hilum"

    @property
    def measured(self) -> Path:
        """What was measured of the candidate beside its answers."""
        return self.root / "measured.json"

    @property
    def evidence(self) -> Path:
        """Folder of the evidence."""
        return self.root / "evidence"

    @property
    def proposal(self) -> Path:
        """The signed proposal."""
        return self.root / "proposal.json"

    @property
    def refused(self) -> Path:
        """Why there is no proposal: the gate's verdict, or who abandoned the round."""
        return self.root / "refused.json"

    @property
    def retired(self) -> Path:
        """Which films of the version were erased (:mod:`hilum.runs.forgetting`); absent where none was."""
        return self.root / "retired.json"

    def answers(self, role: str) -> Path:
        """Predictions of the locked test by one of :data:`ROLES`."""
        return self.root / "answers" / f"{role}.parquet"

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.proposal.exists() or self.refused.exists() or not self.about.exists()

    def read_round(self) -> Round:
        """What it is of.

        Raises:
            DataError: the file is damaged.
        """
        return _read(self.about, Round)


class Rounds:
    """All versions and rounds of a site.

    Args:
        root: their folder, made when absent.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, number: int) -> RoundFolder:
        """The folder of a version."""
        return RoundFolder(self.root / "versions" / f"{number:05d}")

    @property
    def released(self) -> Path:
        """Films that were taken out of the service, each named by its opaque id, and their labels."""
        return self.root / "films"

    def lock(self) -> int:
        """Keep other processes from adding a version; closing the descriptor lets them.

        Raises:
            RunError: another one is at it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            return take_lock(self.root / ".lock")
        except BlockingIOError:
            raise RunError(f"Another process works on {self.root}. Wait for it, or end it first.") from None

    def versions(self) -> tuple[DataVersion, ...]:
        """All versions, each held against the digest that the next one names, and its manifest against its own.

        Raises:
            DataError: one is missing, damaged or was changed.
        """
        found: list[DataVersion] = []
        for number, path in enumerate(sorted((self.root / "versions").glob("[0-9]*")), 1):
            folder = RoundFolder(path)
            one, parent = _read(folder.version, DataVersion), found[-1].sha256 if found else ""
            if one.number != number or one.parent_sha256 != parent:
                raise DataError(
                    f"{folder.version} doesn't follow the version before it: one is missing or was changed."
                )
            if not folder.films.exists() or sha256_file(folder.films) != one.manifest_sha256:
                raise DataError(f"{folder.films} is not the manifest of its version: it was changed. Restore it.")
            found.append(one)
        return tuple(found)

    def rounds(self) -> tuple[tuple[DataVersion, Round], ...]:
        """Versions that a round was begun for, with it."""
        told = ((one, self.folder(one.number)) for one in self.versions())
        return tuple((one, folder.read_round()) for one, folder in told if folder.about.exists())

    def films(self, version: DataVersion) -> Manifest:
        """A version's manifest."""
        return Manifest.read(self.folder(version.number).films)

    def retired(self, number: int) -> tuple[str, ...]:
        """Opaque ids of a version's films that were erased since.

        Raises:
            DataError: the file is damaged.
        """
        path = self.folder(number).retired
        return tuple(_values(path)["films"]) if path.exists() else ()

    def usable(self, version: DataVersion) -> Manifest:
        """A version's manifest without the films that were erased since."""
        films, gone = self.films(version), set(self.retired(version.number))
        mine = [path.parent.name == self.released.name and path.stem in gone for path in films.film_paths()]
        return films.select([row for row, erased in enumerate(mine) if not erased]) if gone else films

    def add(
        self,
        films: Manifest,
        *,
        kind: VersionKind,
        at: str,
        sides: Sides | None = None,
        labels: tuple[str, ...] = (),
        labels_sha256: str = "",
        left_out: tuple[LeftOut, ...] = (),
        about: Round | None = None,
    ) -> DataVersion:
        """Add a version, whole or not at all.

        Args:
            films: its manifest.
            kind: what it is for.
            at: the instant.
            sides: where its patients are; None to read it from the manifest's parts.
            labels: opaque ids of the films whose labels it takes in.
            labels_sha256: digest of the label set.
            left_out: what was not drawn.
            about: the round that begins with it; None for none.

        Raises:
            DataError: a patient of the locked test was trained on, in this or an earlier version.
        """
        before = self.versions()
        ledger = sides or sides_of(films)
        if before:
            ledger = ledger | before[-1].sides
        number = len(before) + 1
        prove_apart(ledger, what=f"Version {number} of the data")
        with replacing_directory(self.folder(number).root) as temporary:
            folder = RoundFolder(temporary)
            films.write(folder.films)
            made = DataVersion(
                number=number,
                parent_sha256=before[-1].sha256 if before else "",
                kind=kind,
                films=films.fingerprint,
                manifest_sha256=sha256_file(folder.films),
                locked=tuple(sorted(ledger.locked)),
                trained=tuple(sorted(ledger.trained)),
                labels=labels,
                labels_sha256=labels_sha256,
                left_out=left_out,
                at=at,
            )
            write_bytes(folder.version, canonical_json(made).encode() + b"\n")
            if about is not None:
                write_bytes(folder.about, canonical_json(about).encode() + b"\n")
        return made

    def open_round(self) -> RoundFolder | None:
        """The round that is not ended; None when there is none."""
        versions = self.versions()
        last = self.folder(len(versions)) if versions else None
        return None if last is None or last.ended else last


def once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier call wrote, or what ``make`` gives now, written.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        write_bytes(path, canonical_json(make()).encode() + b"\n")
    return _values(path)


def _read(path: Path, kind: type[D]) -> D:
    try:
        return from_mapping(kind, _values(path), where=str(path))
    except ConfigError as error:
        raise DataError(f"{path} can't be used: {error} Take it from a backup.") from None


def _values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({type(error).__name__}). Take it from a backup.") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} holds a {type(values).__name__}, not an object. Take it from a backup.")
    return values
