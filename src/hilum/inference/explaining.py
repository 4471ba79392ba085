"""Why a film was answered so, asked in three ways that fail differently, and laid side by side for a person.

Grad-CAM comes with the answer. Occlusion asks the graph itself about films with a square hidden. Integrated gradients
need the trained network, so they are handed in by who has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from hilum.arrays import Array, Tile
from hilum.errors import FilmError, UsageError, nearest
from hilum.explanation.occlusion import occlusion, square_count
from hilum.imaging.sandbox import Sandbox
from hilum.inference.assess import MAX_BATCH, Assessor
from hilum.inference.assessment import Assessment
from hilum.inference.heatmaps import Heatmap
from hilum.inference.predict import PRELOAD, WALL_S, FilmFile
from hilum.inference.preparing import Prepared, prepare_film
from hilum.progress import Progress, Silent

MOST_FILMS = 64
"""Most films of one page; more is what ``hilum predict`` is for."""

SQUARES_ACROSS = 7
"""Hidden squares that would lie side by side on a tile; each overlaps its neighbour by half."""

CELLS_ACROSS = 28
"""Cells across a tile into which the pixels of integrated gradients are summed: single pixels can't be seen."""

TOP_PERCENT = 99.5
"""Percentile of a method's values, over all films of a page, that is shown as full heat."""

GRAD_CAM, OCCLUSION, GRADIENTS = "Grad-CAM", "occlusion", "integrated gradients"


class Shares(NamedTuple):
    """A logit's difference from that of a grey film, shared out among the pixels."""

    values: Array
    """float32 [h, w], in units of logit."""
    difference: float
    """What they should add up to."""


class Gradients(Protocol):
    """Integrated gradients of a logit, from who has the network."""

    def __call__(self, tile: Tile, column: int) -> Shares:
        """Of one tile uint8 [h, w], for one finding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explained:
    """One film with all that was asked about it."""

    name: str
    """What the film is called."""
    assessment: Assessment
    """The answer."""
    finding: str
    """Which finding occlusion and integrated gradients explain."""
    maps: dict[str, Heatmap]
    """By method, for that finding; Grad-CAM first."""
    agreement: dict[tuple[str, str], float | None]
    """Rank correlation of two methods over the cells of the feature map, −1 … 1; None where one of them is constant."""
    notes: dict[str, float]
    """Numbers to judge a method by, such as what integrated gradients leave over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One film that could not be explained."""

    name: str
    """What the film is called."""
    reason: str
    """Why, in a sentence."""


def explain_films(
    assessor: Assessor,
    films: Sequence[FilmFile],
    *,
    finding: str | None = None,
    occlude: bool = True,
    gradients: Gradients | None = None,
    sandbox: Sandbox | None = None,
    progress: Progress | None = None,
) -> tuple[list[Explained], list[Refused]]:
    """Ask about films in every way that is at hand.

    Args:
        assessor: an opened bundle.
        films: at most :data:`MOST_FILMS`.
        finding: what to explain; None: each film's likeliest finding beside normal.
        occlude: whether to hide squares, which costs one pass of the graph for each.
        gradients: integrated gradients, where the network is at hand.
        sandbox: an open one to decode in; None starts one.
        progress: where to report.

    Returns:
        the films in their order, all maps of one method on one scale, and those that can't be explained.

    Raises:
        UsageError: too many films, none at all, or an unknown finding.
    """
    _check(films, finding, assessor)
    if sandbox is None:
        with Sandbox(1, wall_s=WALL_S, preload=PRELOAD) as opened:
            prepared, refused = _prepare(opened, films, assessor)
    else:
        prepared, refused = _prepare(sandbox, films, assessor)
    size = assessor.info.preprocessing.size
    side = max(2, size // SQUARES_ACROSS)
    asked = square_count((size, size), side, side // 2) if occlude else 0
    explained = []
    with (progress or Silent()).bar("Explaining films", len(prepared) * (1 + asked)) as bar:

        def logits(tiles: Array) -> Array:
            bar.advance(len(tiles))
            return assessor.runtime.run(tiles).logits

        for film, one in prepared:
            (assessment,) = assessor.assess_prepared([one])
            about = finding or assessment.top_abnormal or assessor.info.findings[0]
            column = assessor.info.findings.index(about)
            first = assessment.heatmap(about)
            maps, notes = {GRAD_CAM: first}, {}
            if occlude:
                lost = occlusion(logits, one.tile, side=side, stride=side // 2, batch=MAX_BATCH)[column]
                maps[OCCLUSION] = replace(first, values=np.maximum(lost, 0))
            if gradients is not None:
                shares = gradients(one.tile, column)
                maps[GRADIENTS] = replace(first, values=np.maximum(_summed(shares.values), 0))
                notes["difference from a grey film, logit"] = shares.difference
                notes["of it left over by integrated gradients"] = shares.difference - float(shares.values.sum())
            if not occlude:
                bar.advance()
            explained.append(
                Explained(
                    name=film.name,
                    assessment=assessment,
                    finding=about,
                    maps=maps,
                    agreement=_agreement(maps),
                    notes=notes,
                )
            )
    return _one_scale(explained), refused


def _check(films: Sequence[FilmFile], finding: str | None, assessor: Assessor) -> None:
    if not 1 <= len(films) <= MOST_FILMS:
        raise UsageError(
            f"{len(films)} films were given, but a page explains 1 to {MOST_FILMS}. Name single films; hilum predict "
            "answers any number, each with a heat map."
        )
    if finding is not None and finding not in assessor.info.findings:
        raise UsageError(
            f"{finding!r} is not a finding of this model. {nearest(finding, list(assessor.info.findings))}"
        )


def _prepare(
    sandbox: Sandbox, films: Sequence[FilmFile], assessor: Assessor
) -> tuple[list[tuple[FilmFile, Prepared]], list[Refused]]:
    good: list[tuple[FilmFile, Prepared]] = []
    refused: list[Refused] = []
    for film in films:
        try:
            if not film.path.is_file():
                folder = film.path.absolute().parent
                raise FilmError(f"It is not in {folder}, or no plain file. Check the path.", code="not-found")
            prepared = sandbox.run(prepare_film, film.path, assessor.info.preprocessing, assessor.policy)
        except FilmError as error:
            refused.append(Refused(name=film.name, reason=str(error)))
            continue
        if prepared.gate.analyse:
            good.append((film, prepared))
        else:
            refused.append(Refused(name=film.name, reason=" ".join(prepared.gate.reasons)))
    return good, refused


def _summed(values: Array) -> Array:
    """Pixels summed into :data:`CELLS_ACROSS` cells each way, or into as many as there are pixels."""
    rows = np.array_split(np.arange(values.shape[0]), min(CELLS_ACROSS, values.shape[0]))
    columns = np.array_split(np.arange(values.shape[1]), min(CELLS_ACROSS, values.shape[1]))
    across = np.add.reduceat(values, [part[0] for part in columns], axis=1)
    summed: Array = np.add.reduceat(across, [part[0] for part in rows], axis=0).astype(np.float32)
    return summed


def _agreement(maps: dict[str, Heatmap]) -> dict[tuple[str, str], float | None]:
    """Spearman's rank correlation of every two methods, each averaged over the cells of the coarsest."""
    shape = min((one.values.shape for one in maps.values()), key=lambda shape: shape[0] * shape[1])
    coarse = {name: _averaged(one.values, shape) for name, one in maps.items()}
    names = list(coarse)
    return {
        (one, other): _rank_correlation(coarse[one], coarse[other])
        for i, one in enumerate(names)
        for other in names[i + 1 :]
    }


def _averaged(values: Array, shape: tuple[int, ...]) -> Array:
    parts = [np.array_split(part, shape[1], axis=1) for part in np.array_split(values, shape[0], axis=0)]
    averaged: Array = np.array([[cell.mean() for cell in row] for row in parts])
    return averaged


def _rank_correlation(one: Array, other: Array) -> float | None:
    from scipy.stats import rankdata

    ranks = [rankdata(values.ravel()) for values in (one, other)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _one_scale(films: list[Explained]) -> list[Explained]:
    """Full heat is the same for all films: the bundle's for Grad-CAM, a percentile over the page for the others."""
    tops = {}
    for method in (OCCLUSION, GRADIENTS):
        values = [film.maps[method].values.ravel() for film in films if method in film.maps]
        if values:
            tops[method] = float(np.percentile(np.concatenate(values), TOP_PERCENT)) or 1.0
    return [
        replace(
            film, maps={name: replace(one, top=tops[name]) if name in tops else one for name, one in film.maps.items()}
        )
        for film in films
    ]
