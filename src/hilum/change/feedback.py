"""Overrides become labels: quarantined first, limited by source, looked at by a second person, and versioned.

A reader's override is evidence, not truth: one person who errs, or means harm, must not be able to move the model. So
a label counts only after somebody else accepted it, no source gives more than a share of the accepted ones, and labels
that the model finds very unlikely are marked for review. A version is a file that names its parent by digest, so that
what a model was trained on can be told for ever.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hilum.config import canonical_json, from_mapping, to_mapping
from hilum.errors import ConfigError, DataError, UsageError
from hilum.files import write_bytes

LabelState = Literal["quarantined", "outlier", "accepted", "rejected"]
"""``quarantined``: waits for a second person; ``outlier``: waits too, and the model finds it very unlikely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRules:
    """How labels are let in."""

    most_of_one_source: float = 0.5
    """Largest share of the accepted labels that one source may give, once there are ``least_accepted``."""
    least_accepted: int = 20
    """Below so many accepted labels a share says nothing, and is not limited."""
    unlikely: float = 0.02
    """A label to which the model gave less is an outlier."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}, but must lie in 0 … 1."
            for name in ("most_of_one_source", "unlikely")
            if not 0 <= getattr(self, name) <= 1
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One film's label."""

    film_id: str
    """Opaque id."""
    finding: str
    """What the source says."""
    source: str
    """Who."""
    probability: float
    """What the model gave it."""
    state: LabelState = "quarantined"
    """Where it is."""
    decided_by: str = ""
    """Who accepted or rejected it; empty until then."""
    drawn_with: float | None = None
    """Probability with which the film was drawn for labelling; None for an override, which nobody drew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """A version of the set."""

    version: int
    """1, 2, 3 …; 0 for the empty one."""
    parent_sha256: str
    """Digest of the version before; empty for the first."""
    labels: tuple[Label, ...]
    """All of them, by film."""

    @property
    def accepted(self) -> tuple[Label, ...]:
        """Those that may be trained on."""
        return tuple(one for one in self.labels if one.state == "accepted")

    @property
    def sha256(self) -> str:
        """Digest of this version."""
        return hashlib.sha256(_text(self).encode()).hexdigest()


EMPTY = LabelSet(version=0, parent_sha256="", labels=())


def _text(labels: LabelSet) -> str:
    """A version's one text; what wasn't drawn says nothing of it, so that sets from before keep their digests."""
    plain = to_mapping(labels)
    for one in plain["labels"]:
        if one["drawn_with"] is None:
            del one["drawn_with"]
    return canonical_json(plain)


def collect(known: LabelSet, overrides: Iterable[Label], rules: LabelRules) -> LabelSet:
    """The next version with new overrides in quarantine; labels that are there already stay as they are.

    Raises:
        DataError: two new labels of one film.
    """
    there, fresh = {one.film_id for one in known.labels}, [*overrides]
    fresh = [one for one in fresh if one.film_id not in there]
    twice = [film for film, count in Counter(one.film_id for one in fresh).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} films have two new labels. Let an adjudicator settle them first.")
    judged = [
        replace(one, state="outlier" if one.probability < rules.unlikely else "quarantined", decided_by="")
        for one in fresh
    ]
    return _next(known, [*known.labels, *judged])


def decide(known: LabelSet, film_id: str, *, accept: bool, by: str, rules: LabelRules) -> LabelSet:
    """The next version with one label accepted or rejected.

    Raises:
        UsageError: no such label, it was decided, its source decides itself, or its source has given too many.
    """
    label = next((one for one in known.labels if one.film_id == film_id), None)
    if label is None:
        raise UsageError(f"The set has no label of film {film_id}. Collect it first.")
    if label.state in ("accepted", "rejected"):
        raise UsageError(f"The label of film {film_id} is {label.state} already.")
    if by == label.source:
        raise UsageError(f"{by!r} gave this label, and can't decide about it. Another person must.")
    if accept:
        _within_limits(known, label.source, rules)
    state: LabelState = "accepted" if accept else "rejected"
    decided = replace(label, state=state, decided_by=by)
    return _next(known, [decided if one.film_id == film_id else one for one in known.labels])


def _within_limits(known: LabelSet, source: str, rules: LabelRules) -> None:
    accepted = known.accepted
    mine, total = sum(one.source == source for one in accepted) + 1, len(accepted) + 1
    if total > rules.least_accepted and mine / total > rules.most_of_one_source:
        raise UsageError(
            f"{source!r} would have given {mine} of {total} accepted labels, more than "
            f"{100 * rules.most_of_one_source:.0f} %. Accept labels of others first."
        )


def _next(known: LabelSet, labels: Sequence[Label]) -> LabelSet:
    ordered = tuple(sorted(labels, key=lambda one: one.film_id))
    if ordered == known.labels:
        return known
    return LabelSet(version=known.version + 1, parent_sha256=known.sha256 if known.version else "", labels=ordered)


def write_labels(folder: Path, labels: LabelSet) -> Path:
    """Write a version; an older one is never overwritten.

    Raises:
        UsageError: this version is there with other labels.
    """
    path = folder / f"labels-{labels.version:05d}.json"
    content = _text(labels).encode() + b"\n"
    if path.exists() and path.read_bytes() != content:
        raise UsageError(f"{path} is there with other labels: somebody changed the set meanwhile. Read it again.")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return path


def read_labels(folder: Path) -> LabelSet:
    """The newest version, after every version was held against the digest that the next one names.

    Raises:
        DataError: a version is missing, unreadable or was changed.
    """
    newest = deque(read_versions(folder), maxlen=1)
    return newest[0] if newest else EMPTY


def read_versions(folder: Path) -> Iterator[LabelSet]:
    """All versions, the first one first, each held against the digest that the next one names.

    Raises:
        DataError: a version is missing, unreadable or was changed.
    """
    parent = ""
    for number, path in enumerate(sorted(folder.glob("labels-*.json")), 1):
        found = _read(path)
        if found.version != number or found.parent_sha256 != parent:
            raise DataError(f"{path} doesn't follow the version before it: a version is missing, or was changed.")
        parent = found.sha256
        yield found


def _read(path: Path) -> LabelSet:
    try:
        values: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        return from_mapping(LabelSet, values, where=path.name)
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} is no version of labels ({type(error).__name__}). Take it from a backup.") from None
