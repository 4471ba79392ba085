"""Audits of the films: whether the label can be read from what is not the disease, by light models on frozen features.

No network is trained for them. Each row says which films were asked, and what the number would be by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hilum.arrays import Array, Indices
from hilum.evaluation.audits import Audit, Candidate
from hilum.evaluation.backing import SHUFFLED, Backing
from hilum.evaluation.confounding import WORDS
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import (
    Resampling,
    wilson_interval,
)
from hilum.evaluation.light_models import (
    PERMUTATIONS,
    Cases,
    Reading,
    read_labels,
)
from hilum.labels import Findings
from hilum.predictions import Predictions

READABLE = 0.6
"""Mean AUROC from which a reading of the label is an alarm, when it is also beyond chance."""

PARTS = {
    "border-only model": "the outer tenth of the film, lungs blacked out",
    "corner-marker model": "the four corners alone, where markers and burned-in text stand",
    "lung-blacked-out model": "the film without its lungs",
}
"""Views without lungs, in words: what can be read from them is not the disease."""

PAPERS = {
    "metadata-only model": "DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7",
    "border-only model": "Maguolo and Nanni 2021, doi:10.1016/j.inffus.2021.04.008",
    "corner-marker model": "Zech et al. 2018, doi:10.1371/journal.pmed.1002683",
    "lung-blacked-out model": "Maguolo and Nanni 2021, doi:10.1016/j.inffus.2021.04.008",
    "centre-only model": "Tartaglione et al. 2020, doi:10.3390/ijerph17186933",
    "whole-film model": "",
    "readable from features": "DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7",
    "inside one source": "Cohen et al. 2020, arXiv:2002.02497",
    "left-out source": "Zech et al. 2018, doi:10.1371/journal.pmed.1002683",
    "duplicates across the split": "Roberts et al. 2021, doi:10.1038/s42256-021-00307-0",
    "label noise": "Northcutt et al. 2021, doi:10.1613/jair.1.12125",
}
"""Where each audit comes from."""

FIT = "fit part, out of fold"

COLUMN_WORDS = {
    **WORDS,
    "modality": "kind of machine",
    "photometric": "polarity in the header",
    "age_years": "age",
    "bits_stored": "bit depth",
    "bytes": "size of the file",
}
"""Columns of a manifest in words; those not listed are words by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The films that light models are asked about."""

    findings: Findings
    """What the labels are."""
    classes: Indices
    """[n] classes; negative where the label is unknown."""
    patient_ids: Sequence[str]
    """n ids."""
    settings: Resampling
    """Of the intervals."""
    film_ids: Sequence[str] = ()
    """n ids, or none; the scores behind a number are told by them."""
    permutations: int = PERMUTATIONS
    """Shuffles of each test."""

    @property
    def cases(self) -> Cases:
        """One film a patient and finding."""
        return Cases.of(self.classes, self.patient_ids, seed=self.settings.seed)

    def read(self, features: Array, cases: Cases) -> Reading:
        """Read the label."""
        return read_labels(features, cases, settings=self.settings, permutations=self.permutations)

    def backing(self, reading: Reading, cases: Cases, names: Sequence[str]) -> Backing | None:
        """The scores behind a reading, with what its shuffles gave; None where there are none.

        Args:
            reading: from :meth:`read`.
            cases: what was read.
            names: of the classes.
        """
        if not len(reading.scores):
            return None
        columns = {f"score: {names[c]}": reading.scores[:, i] for i, c in enumerate(cases.askable)}
        return self.of_cases(columns, cases, names) + Backing.single(SHUFFLED, reading.shuffled)

    def of_cases(self, columns: Mapping[str, Array], cases: Cases, names: Sequence[str]) -> Backing:
        """Columns [m] of the cases as scores behind a number; ``names`` are of the classes."""
        rows = cases.rows.tolist()
        return Backing.of(
            columns,
            [self.patient_ids[i] for i in rows],
            film_ids=[self.film_ids[i] for i in rows] if self.film_ids else (),
            truth=[names[c] for c in cases.classes.tolist()],
            classes=cases.classes,
        )

    def best(self, reading: Reading) -> str:
        """The finding that is read best."""
        return self.findings.name(max(reading.by_class, key=lambda c: reading.by_class[c])) if reading.by_class else ""


def metadata_audit(asked: Asked, columns: Mapping[str, Sequence[str] | Array]) -> Audit:
    """Read the label from what is known of the films without looking at them.

    Args:
        asked: the films.
        columns: texts (each value becomes a column of its own) or numbers (NaN where not known), by name.
    """
    cases, name = asked.cases, "metadata-only model"
    parts = {key: coded(values) for key, values in columns.items()}
    parts = {key: part for key, part in parts.items() if part.shape[1]}
    every = np.concatenate(list(parts.values()), axis=1) if parts else np.zeros((len(asked.classes), 0))
    reading, backing = asked.read(every, cases), None
    alone = {
        key: read_labels(part, cases, settings=Resampling(resamples=20), permutations=0) for key, part in parts.items()
    }
    telling = max(alone, key=lambda key: alone[key].auroc.value, default="")
    said = ""
    if telling:
        said = f", above all from the {COLUMN_WORDS.get(telling, telling)} ({alone[telling].auroc.value:.2f})"
    if len(reading.scores):
        names = asked.findings.names
        apart = {
            f"{key} alone: {names[c]}": one.scores[:, i]
            for key, one in alone.items()
            for i, c in enumerate(cases.askable)
        }
        backing = asked.of_cases(apart, cases, names)
        backing = backing + found if (found := asked.backing(reading, cases, names)) else None
    sentence = (
        f"{capital(asked.best(reading))} and the other labels can be read from the films' metadata alone, without a "
        f"pixel{said}: mean AUROC {reading.auroc.text()}, where chance is 0.5."
    )
    return Audit(
        name=name,
        about=", ".join(COLUMN_WORDS.get(key, key) for key in parts),
        measure="mean AUROC",
        value=reading.auroc,
        chance=0.5,
        floor=READABLE,
        p_value=reading.p_value,
        sentence=sentence,
        films=FIT,
        paper=PAPERS[name],
        backing=backing,
    )


def coded(values: Sequence[str] | Array) -> Array:
    """One column of metadata as numbers: each text that two films or more share, or a number and its logarithm."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        numbers = values.astype(np.float64)
        known = ~np.isnan(numbers)
        if not known.any():
            return np.zeros((len(numbers), 0))
        filled = np.where(known, numbers, np.median(numbers[known]))
        return np.column_stack([filled, np.log1p(np.abs(filled)), known])
    texts = np.asarray([str(value) for value in values])
    levels, counts = np.unique(texts, return_counts=True)
    shared = levels[counts > 1]
    shown: Array = (texts[:, None] == shared[None]).astype(np.float64)
    return shown


def part_audits(asked: Asked, views: Mapping[str, Array], whole: Array) -> list[Audit]:
    """Read the label from parts of the films that hold no lung, and from lungs and whole films for comparison.

    Args:
        asked: the films.
        views: features [n, d] of each of :data:`PARTS`, and of ``centre-only model``.
        whole: features of the films as they are.
    """
    cases = asked.cases
    rows = []
    for name, part in PARTS.items():
        if name not in views:
            continue
        reading = asked.read(views[name], cases)
        sentence = (
            f"{capital(asked.best(reading))} can be read from {part} (mean AUROC over findings {reading.auroc.text()}, "
            f"chance 0.5): {_meaning(name)}."
        )
        rows.append(
            Audit(
                name=name,
                about=part,
                measure="mean AUROC",
                value=reading.auroc,
                chance=0.5,
                floor=READABLE,
                p_value=reading.p_value,
                sentence=sentence,
                films=FIT,
                paper=PAPERS[name],
                backing=asked.backing(reading, cases, asked.findings.names),
            )
        )
    for name, features in (("whole-film model", whole), ("centre-only model", views.get("centre-only model"))):
        if features is None:
            continue
        reading = read_labels(features, cases, settings=asked.settings, permutations=0)
        part = "the film as it is" if name == "whole-film model" else "the box around the lungs, the rest black"
        rows.append(
            Audit(
                name=name,
                about=part,
                measure="mean AUROC",
                value=reading.auroc,
                chance=0.5,
                sentence=f"From {part} the label is read with mean AUROC {reading.auroc.text()}.",
                films=FIT,
                paper=PAPERS[name],
                backing=asked.backing(reading, cases, asked.findings.names),
            )
        )
    return rows


def _meaning(name: str) -> str:
    if name == "corner-marker model":
        return "a marker or burned-in text goes with the label"
    return "the label goes with something outside the lungs"


def capital(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]


COPIES = "copies across the split"
"""Column behind the duplicates: how many, or a one for each tested film that is one."""


def duplicates_audit(pairs_across: int, films: int, compared: int, film_ids: Sequence[str] = ()) -> Audit:
    """Copies of one film on both sides of the split: any is an alarm.

    Args:
        pairs_across: pairs of copies, one in the fit part and one in the test share.
        films: films of the test share.
        compared: films of both parts that could be compared by their look.
        film_ids: of the copies among the tested films, where it is known which they are.
    """
    share = min(1.0, pairs_across / films) if films else math.nan
    low, high = wilson_interval(share, films)
    value = Estimate(value=share, low=low, high=high, n=films, method="wilson")
    if not films or not compared:
        value = not_estimable("There is no test share, or no film has a thumb to compare.", n=films)
    return Audit(
        name="duplicates across the split",
        about="copies by SHA-256 or look",
        measure="pairs, as a share of the test films",
        value=value,
        chance=0.0,
        floor=1e-12,
        p_value=math.nan if not value.estimable else (0.0 if pairs_across else 1.0),
        sentence=(
            f"{pairs_across} pair{'s' if pairs_across != 1 else ''} of copies stand on both sides of the split, so the "
            "test asks for films that were learned."
        ),
        films="fit part against test share",
        paper=PAPERS["duplicates across the split"],
        backing=Backing.of({COPIES: np.ones(len(film_ids))}, [""] * len(film_ids), film_ids=film_ids)
        if film_ids
        else Backing.single(COPIES, np.array([float(pairs_across)])),
    )


def label_noise(films: Predictions, *, most: int = 50) -> tuple[Audit, tuple[Candidate, ...]]:
    """Films whose label a model that never saw their patient contradicts with confidence (confident learning).

    A film counts when the probability of another finding is at least the mean that this finding gets on films that
    bear it; the joint of label and answer is counted so. Candidates are for a person to look at: nothing is changed.

    Args:
        films: out-of-fold predictions.
        most: candidates that are listed.
    """
    films = films.labelled
    n, k = len(films), len(films.findings)
    name = "label noise"
    scored = ~np.isnan(films.probs).any(axis=1) if n else np.zeros(0, dtype=bool)
    row = Audit(
        name=name,
        about="confident disagreement with the label",
        measure="share of films",
        value=not_estimable("There is no labelled film with an out-of-fold prediction.", n=n),
        films=FIT,
        paper=PAPERS[name],
    )
    if not scored.any():
        return row, ()
    rows = np.flatnonzero(scored)
    probs, truth = films.probs[rows], films.targets[rows].argmax(axis=1)
    means = np.array([probs[truth == c, c].mean() if (truth == c).any() else math.inf for c in range(k)])
    sure = np.where(probs >= means, probs, -1.0)
    said = sure.argmax(axis=1)
    wrong = np.flatnonzero((sure.max(axis=1) > 0) & (said != truth))
    order = wrong[np.argsort(-(probs[wrong, said[wrong]] - probs[wrong, truth[wrong]]), kind="stable")]
    patients = len({films.patient_ids[i] for i in rows})
    low, high = wilson_interval(len(wrong) / len(rows), patients)
    value = Estimate(
        value=len(wrong) / len(rows),
        low=low,
        high=high,
        n=len(rows),
        patients=patients,
        method="wilson, patients as trials",
    )
    found = tuple(
        Candidate(
            film_id=films.film_ids[rows[i]],
            label=films.findings.name(int(truth[i])),
            answer=films.findings.name(int(said[i])),
            probability=float(probs[i, said[i]]),
        )
        for i in order[:most].tolist()
    )
    sentence = f"{len(wrong)} of {len(rows)} labels are contradicted with confidence; a person should look at them."
    return replace(row, value=value, sentence=sentence), found
