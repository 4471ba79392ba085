"""The next version of the training data: what was trained on before, and films whose labels were let in since.

The locked test stays what it was, film by film, for ever: no film of its patients, and no copy of one of its films, is
drawn, whichever version they come with, and nobody who was once trained on enters it. Films that were there keep their
fold, so that versions can be compared; a new film follows its patient, and new patients go where they are fewest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hilum.arrays import Indices
from hilum.config import from_mapping
from hilum.datasets.duplicates import Duplicates, find_duplicates
from hilum.datasets.manifest import Manifest
from hilum.datasets.split_report import NOTE, report_of, with_report
from hilum.datasets.splits import SplitConfig, group_films, split_report
from hilum.errors import DataError
from hilum.imaging.pseudonyms import is_pseudonym
from hilum.progress import Progress

TOLD = 5
"""Films that a message names; the version's own list names all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A labelled film that was not drawn."""

    film: str
    """Its opaque id."""
    reason: str
    """Why, as the end of a sentence that begins with the film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Patients by the side that they have been on, in this version or any before."""

    locked: frozenset[str]
    """Those of the locked test."""
    trained: frozenset[str]
    """Those who were trained or calibrated on."""

    def __or__(self, other: "Sides") -> "Sides":
        return Sides(locked=self.locked | other.locked, trained=self.trained | other.trained)


def sides_of(films: Manifest) -> Sides:
    """On which side the patients of a split manifest are.

    Raises:
        DataError: a film of either part has no patient.
    """
    found = {}
    for part in ("test", "fit"):
        owners = films.select(films.rows(part=part)).strings("patient_id")
        if blank := owners.count(""):
            raise DataError(
                f"{blank} films of the {part} part have no patient_id, so nobody can say that the locked test stays "
                "apart. Import them with it, and split again."
            )
        found[part] = frozenset(owners)
    return Sides(locked=found["test"], trained=found["fit"])


def prove_apart(sides: Sides, *, what: str) -> None:
    """Refuse patients on both sides.

    Args:
        sides: over all versions.
        what: is to become a version, for the message.

    Raises:
        DataError: a patient of the locked test was trained on, then or before.
    """
    if both := len(sides.locked & sides.trained):
        raise DataError(
            f"{what}: {both} patients of the locked test were trained on, in this or an earlier version of the data. "
            "Whoever was trained on once never enters the locked test: keep the test set that the ledger knows."
        )


def check_names(ledger: Sides, fresh: Manifest) -> None:
    """Refuse films whose patients are named in another way than those of the versions before.

    Raises:
        DataError: one side has pseudonyms and the other hasn't: nobody could say who is in the locked test.
    """
    before = [is_pseudonym(one) for one in ledger.locked | ledger.trained]
    new = [is_pseudonym(one) for one in fresh.strings("patient_id") if one]
    hidden = sum(before) > len(before) / 2
    if different := sum(one is not hidden for one in new):
        was, now, mend = (
            ("have pseudonyms", "don't", "Give the key that those were de-identified with: --pseudonym-key FILE.")
            if hidden
            else ("have no pseudonyms", "do", "Leave out --pseudonym-key, or de-identify those films as well.")
        )
        raise DataError(
            f"The patients trained on before {was}, and those of {different} labelled films {now}, so one patient "
            f"would have two names and the locked test could not be kept apart. {mend}"
        )


def next_version(
    parent: Manifest,
    fresh: Manifest,
    names: Sequence[str],
    *,
    findings: Sequence[str],
    ledger: Sides,
    leave_out: bool = False,
    progress: Progress | None = None,
) -> tuple[Manifest, tuple[LeftOut, ...]]:
    """Add labelled films to a split manifest's fit part.

    Args:
        parent: the version before, split.
        fresh: films with labels and patients.
        names: their opaque ids, for messages.
        findings: that the model tells apart.
        ledger: patients by side, over all versions until now.
        leave_out: leave out, and list, films that can't be drawn, instead of refusing all.
        progress: where progress goes.

    Returns:
        (the next version, with parts, folds and the proof that they share nothing; films that were left out).

    Raises:
        DataError: there is no film to add, films can't be drawn (each named with the reason), or the locked test holds
            patients who were trained on.
    """
    prove_apart(ledger | sides_of(parent), what="The version before")
    together = _joined(parent, fresh)
    duplicates = find_duplicates(together, progress=progress)
    groups = group_films(together, duplicates)
    why = _reasons(parent, fresh, groups, findings, ledger)
    left_out = tuple(LeftOut(film=names[row], reason=reason) for row, reason in sorted(why.items()))
    refuse(left_out, leave_out=leave_out, of=len(fresh))
    rows = np.array([row for row in range(len(together)) if row - len(parent) not in why], dtype=np.int64)
    result = _placed(together.select(rows), len(parent), groups[rows])
    if left_out:
        duplicates = find_duplicates(result, progress=progress)
    return _proven(result, parent, duplicates), left_out


def refuse(left_out: Sequence[LeftOut], *, leave_out: bool, of: int) -> None:
    """Refuse films that can't be drawn, unless they may be left out and others stay.

    Raises:
        DataError: each is named with the reason, or none stays.
    """
    told = "; ".join(f"film {one.film} {one.reason}" for one in left_out[:TOLD])
    more = f"; and {len(left_out) - TOLD} more" if len(left_out) > TOLD else ""
    if left_out and not leave_out:
        raise DataError(
            f"{len(left_out)} of {of} labelled films can't be drawn: {told}{more}. Reject these labels, or leave them "
            "out with --leave-out, which lists them in the version."
        )
    if len(left_out) == of:
        why = f" ({told}{more})" if left_out else ""
        raise DataError(f"No labelled film is left to add{why}, so there is no next version. Accept labels first.")


def _joined(parent: Manifest, fresh: Manifest) -> Manifest:
    """Both, with the columns of the parent alone: the locked test keeps its fingerprint."""
    moved = fresh.in_folder(parent.folder).with_columns(part=[""] * len(fresh), fold=[-1] * len(fresh))
    columns: dict[str, pa.ChunkedArray] = {}
    for name in parent.table.column_names:
        theirs = moved.table[name] if name in moved.table.column_names else pa.nulls(len(fresh), pa.string())
        columns[name] = pa.chunked_array([*parent.table[name].chunks, *_chunks(theirs)])
    return Manifest.from_columns(columns, folder=parent.folder, notes=parent.notes)


def _chunks(values: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return list(values.chunks) if isinstance(values, pa.ChunkedArray) else [values]


def _reasons(
    parent: Manifest, fresh: Manifest, groups: Indices, findings: Sequence[str], ledger: Sides
) -> dict[int, str]:
    """Why rows of the fresh films can't be drawn."""
    owners, labels, ids = (fresh.strings(name) for name in ("patient_id", "label", "film_id"))
    twice = {film for film, count in Counter(ids).items() if count > 1}
    known, parts = set(parent.strings("film_id")), np.asarray(parent.strings("part"), dtype=object)
    tested = set(groups[: len(parent)][parts == "test"].tolist())
    folds = _folds_of_groups(parent, groups)
    found: dict[int, str] = {}
    for row in range(len(fresh)):
        group = int(groups[len(parent) + row])
        # The first that holds is told: what is worst comes first.
        reasons: Mapping[str, bool] = {
            "has no patient, so nobody can say that the locked test stays apart": not owners[row],
            "is of a patient of the locked test, who is never drawn": owners[row] in ledger.locked,
            "is a copy of a film of the locked test": group in tested,
            "is labelled twice": ids[row] in twice,
            "is in the version before already": ids[row] in known,
            f"is labelled {labels[row]!r}, which is none of {', '.join(findings)}": labels[row] not in findings,
            "is a copy of films in two folds": len(folds.get(group, ())) > 1,
        }
        if told := next((reason for reason, holds in reasons.items() if holds), ""):
            found[row] = told
    return found


def _folds_of_groups(parent: Manifest, groups: Indices) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for group, fold in zip(groups[: len(parent)].tolist(), parent.column("fold").tolist(), strict=True):
        if fold >= 0:
            found.setdefault(group, set()).add(int(fold))
    return found


def _placed(films: Manifest, before: int, groups: Indices) -> Manifest:
    """Give the films after ``before`` their part and fold."""
    part, fold = films.strings("part"), films.column("fold").astype(np.int64).copy()
    folds = max(1, int(fold.max(initial=0)) + 1)
    labels, ids = films.strings("label"), films.strings("film_id")
    place = {int(group): int(at) for group, at in zip(groups[:before], fold[:before], strict=True) if at >= 0}
    counts = Counter((int(at), label) for at, label in zip(fold[:before], labels[:before], strict=True) if at >= 0)
    totals = Counter(int(at) for at in fold[:before] if at >= 0)
    for row in sorted(range(before, len(films)), key=lambda row: ids[row]):
        group = int(groups[row])
        if group not in place:
            place[group] = min(range(folds), key=lambda at: (counts[at, labels[row]], totals[at], at))
        part[row], fold[row] = "fit", place[group]
        counts[place[group], labels[row]] += 1
        totals[place[group]] += 1
    return films.with_columns(part=part, fold=fold)


def _proven(result: Manifest, parent: Manifest, duplicates: Duplicates) -> Manifest:
    """With a report of its own, after it was proved that parts and folds share nothing."""
    config = SplitConfig()
    if NOTE in parent.notes:
        config = from_mapping(SplitConfig, report_of(parent).config, where="split report")
    added = len(result) - len(parent)
    notes = [f"{added} films were added to the fit part of the version before; the test part is that version's."]
    return with_report(result, split_report(result, config, duplicates, group_films(result, duplicates), notes))
