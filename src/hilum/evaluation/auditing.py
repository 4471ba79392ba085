"""All audits in turn: of films with features that someone computes, and of a network that someone asks.

Torch-free: ``describe`` and ``answer`` are given, so a run gives its own backbone (:mod:`hilum.runs.audits`), and plain
pixels serve where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hilum.arrays import Array, Indices, Mask, Scores, Tiles
from hilum.evaluation import data_audits as data
from hilum.evaluation import network_audits as network
from hilum.evaluation import source_audits as groups
from hilum.evaluation.audits import Audit
from hilum.evaluation.backing import Backing
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.light_models import MOST_CASES, PERMUTATIONS
from hilum.imaging import audit_views as views
from hilum.labels import Findings
from hilum.progress import Progress, Silent
from hilum.randomness import stream

Describe = Callable[[Tiles], Array]
"""Films → features [n, d]."""

Answer = Callable[[Tiles], Scores]
"""Films → probabilities [n, k]."""

CELLS = 12
"""Cells a side that plain pixels are summed up in."""

GAMMAS, CROP, COARSER, QUALITY = (0.8, 1.25), 0.03, 2.0, 50
"""Mild changes that no reader would mind: contrast curves, share cut off each side, fewer pixels, JPEG quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedFilms:
    """Films to be audited, and what is known of them.

    Attributes:
        tiles: uint8 [n, h, w].
        findings: what the labels are.
        classes: [n] classes; negative where the label is unknown.
        film_ids: n ids.
        patient_ids: n ids.
        groups: for each group n texts, ``source`` among them where it is known.
        metadata: more columns that say something of a film without showing it: texts, or numbers.
    """

    tiles: Tiles
    findings: Findings
    classes: Indices
    film_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    groups: Mapping[str, Sequence[str]]
    metadata: Mapping[str, Sequence[str] | Array]

    def select(self, rows: Indices) -> "AuditedFilms":
        """The given films."""
        return AuditedFilms(
            tiles=self.tiles[rows],
            findings=self.findings,
            classes=self.classes[rows],
            film_ids=tuple(self.film_ids[i] for i in rows.tolist()),
            patient_ids=tuple(self.patient_ids[i] for i in rows.tolist()),
            groups={name: [values[i] for i in rows.tolist()] for name, values in self.groups.items()},
            metadata={name: _taken(values, rows) for name, values in self.metadata.items()},
        )

    def backing(self, columns: Mapping[str, Array]) -> Backing:
        """Columns [n] as the scores behind a number."""
        return Backing.of(
            columns,
            self.patient_ids,
            film_ids=self.film_ids,
            truth=[self.findings.name(c) for c in self.classes.tolist()],
            classes=self.classes,
        )

    def before_and_after(self, before: Scores, after: Scores) -> Backing:
        """Probabilities [n, k] of the films as they are and as they were changed."""
        return self.backing(
            {
                f"{start}{name}": scores[:, c]
                for start, scores in ((BEFORE, before), (AFTER, after))
                for c, name in enumerate(self.findings.names)
            }
        )


BEFORE, AFTER = "as it is: ", "changed: "
"""Beginnings of the columns of a network's probabilities."""

SAME, OTHER = "with corners of the same finding", "with corners of another finding"
"""Columns: the probability of that other finding."""


def _taken(values: Sequence[str] | Array, rows: Indices) -> Sequence[str] | Array:
    return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows.tolist()]


def pixel_features(tiles: Tiles) -> Array:
    """Mean, largest and spread of grey in the cells of a grid, [n, 3 · CELLS²]: features where there is no network."""
    rows, columns = (np.linspace(0, side, CELLS + 1).round().astype(int)[:-1] for side in tiles.shape[1:])

    def over_cells(of: np.ufunc, values: Array) -> Array:
        reduced: Array = of.reduceat(of.reduceat(values, rows, axis=1), columns, axis=2)
        return reduced.reshape(len(tiles), -1).astype(np.float64)

    grey = tiles.astype(np.int64)
    size = over_cells(np.add, np.ones_like(grey))
    mean = over_cells(np.add, grey) / size
    variance = np.maximum(over_cells(np.add, grey * grey) / size - mean * mean, 0)
    return np.stack([mean, over_cells(np.maximum, grey), np.sqrt(variance)], axis=2).reshape(len(tiles), -1)


def audit_films(
    films: AuditedFilms,
    describe: Describe,
    *,
    lungs: Mask | None = None,
    settings: Resampling | None = None,
    permutations: int = PERMUTATIONS,
    progress: Progress | None = None,
) -> list[Audit]:
    """Ask light models what can be read from films, from their parts, and from what is known of them.

    Args:
        films: the films; :func:`some_patients` says which are enough.
        describe: films → features.
        lungs: where lungs lie in these films; looked for when None.
        settings: of the intervals.
        permutations: shuffles of each test.
        progress: where progress goes.

    Returns:
        rows without verdicts; :func:`~hilum.evaluation.audits.concluded` gives them, once all rows are there.
    """
    settings = settings or Resampling()
    asked = data.Asked(
        findings=films.findings,
        classes=films.classes,
        patient_ids=films.patient_ids,
        film_ids=films.film_ids,
        settings=settings,
        permutations=permutations,
    )
    steps = 7
    with (progress or Silent()).bar("Auditing films", steps) as bar:
        lungs = views.lung_region(films.tiles) if lungs is None else lungs
        bar.advance(note="whole films")
        whole = describe(films.tiles)
        seen = {}
        for name, made in _parts(films.tiles, lungs).items():
            bar.advance(note=name)
            seen[name] = describe(made())
        bar.advance(note="light models")
        rows = [data.metadata_audit(asked, {**films.groups, **films.metadata})]
        rows += data.part_audits(asked, seen, whole)
        rows += groups.group_audits(asked, whole, films.groups)
        rows += groups.left_out_audits(asked, whole, films.groups.get("source", [""] * len(films.tiles)))
        bar.advance()
    return rows


def _parts(tiles: Tiles, lungs: Array) -> dict[str, Callable[[], Tiles]]:
    """Each view of the films, made when it is its turn: five copies of all films needn't be in memory."""
    frame = views.border(tiles.shape[1:])
    return {
        "border-only model": lambda: views.blacked_out(tiles, ~frame | lungs),
        "corner-marker model": lambda: views.corner_mosaic(tiles, lungs),
        "lung-blacked-out model": lambda: views.blacked_out(tiles, lungs),
        "centre-only model": lambda: views.blacked_out(tiles, ~views.box_around(lungs)),
    }


def some_patients(patient_ids: Sequence[str], *, seed: int = 0) -> Indices:
    """Rows of films for light models: all, or those of patients drawn by lot up to twice :data:`MOST_CASES` films."""
    if len(patient_ids) <= 2 * MOST_CASES:
        return np.arange(len(patient_ids))
    patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1]
    order = stream(seed, "audited films").permutation(int(patient.max()) + 1)
    counts = np.bincount(patient)[order].cumsum()
    kept = order[: max(1, int(np.searchsorted(counts, 2 * MOST_CASES)))]
    return np.flatnonzero(np.isin(patient, kept))


def audit_network(
    films: AuditedFilms,
    answer: Answer,
    *,
    lungs: Mask | None = None,
    settings: Resampling | None = None,
    progress: Progress | None = None,
) -> list[Audit]:
    """Change films where the disease isn't, and see whether the answers stay.

    Args:
        films: evaluated films; those of unknown label, or without an answer (NaN), are left out.
        answer: films → probabilities.
        lungs: where lungs lie in these films; looked for when None.
        settings: of the intervals.
        progress: where progress goes.

    Returns:
        rows without verdicts.
    """
    settings = settings or Resampling()
    films = films.select(np.flatnonzero(films.classes >= 0))
    if not len(films.tiles):
        return []
    before = answer(films.tiles)
    scored = np.flatnonzero(np.isfinite(before).all(axis=1))
    if not len(scored):
        return []
    films, before = films.select(scored), before[scored]
    ids, tiles = films.patient_ids, films.tiles
    with (progress or Silent()).bar("Auditing the network", 9) as bar:
        bar.advance(note="text covered")
        lungs = views.lung_region(tiles) if lungs is None else lungs
        where = views.text(tiles, lungs)
        covered: dict[str, tuple[Tiles, Array | None]] = {
            "corners": (views.corners_covered(tiles), None),
            "burned-in text": (views.text_covered(tiles, where), np.asarray(where.any(axis=(1, 2)))),
        }
        rows = []
        for name, (made, touched) in covered.items():
            after = answer(made)
            row = network.fall_audit(
                before, after, films.classes, ids, films.findings, covered=name, settings=settings, touched=touched
            )
            rows.append(replace(row, backing=films.before_and_after(before, after)))
            bar.advance(note="corners swapped")
        rows.append(_swapped(films, answer, settings))
        bar.advance(note="stability")
        for change, made_by in _changes().items():
            after = answer(made_by(tiles))
            row = network.stability_audit(before, after, ids, change=change, settings=settings)
            rows.append(replace(row, backing=films.before_and_after(before, after)))
            bar.advance(note=change)
    return rows


def _swapped(films: AuditedFilms, answer: Answer, settings: Resampling) -> Audit:
    sources = films.groups.get("source")
    rows, same, other, wears = network.donors(films.classes, films.patient_ids, sources, seed=settings.seed)
    k = len(films.findings)
    answers = [np.zeros((0, k)), np.zeros((0, k))]
    if len(rows):
        answers = [answer(views.corners_worn(films.tiles[rows], films.tiles[donors])) for donors in (same, other)]
    asked, each = films.select(rows), np.arange(len(rows))
    row = network.swap_audit(answers[0], answers[1], asked.classes, wears, asked.patient_ids, settings=settings)
    return replace(row, backing=asked.backing({SAME: answers[0][each, wears], OTHER: answers[1][each, wears]}))


def _changes() -> dict[str, Callable[[Tiles], Tiles]]:
    darker, lighter = max(GAMMAS), min(GAMMAS)
    return {
        f"a lighter picture (gamma {lighter})": lambda tiles: views.with_gamma(tiles, lighter),
        f"a darker picture (gamma {darker})": lambda tiles: views.with_gamma(tiles, darker),
        f"{CROP:.0%} cut off each side": lambda tiles: views.cropped(tiles, CROP),
        f"a {COARSER:g} times coarser picture": lambda tiles: views.coarser(tiles, COARSER),
        f"JPEG of quality {QUALITY}": lambda tiles: views.as_jpeg(tiles, QUALITY),
    }
