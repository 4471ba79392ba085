"""What an answer looked like from outside: what the monitor is given of it."""

import numpy as np

from hilum.imaging.dicom_terms import VIEW_POSITIONS
from hilum.inference.assessment import Assessment
from hilum.inference.preparing import Prepared
from hilum.predictions import NOT_RECORDED
from hilum.records.observations import STATISTICS
from hilum.records.values import NewObservation

LARGEST = float(np.finfo("<f2").max)
"""What a kept feature is cut to: an infinite one would count as none, and hide what it was to show."""

ANOTHER = "another term"


def observation_of(prepared: Prepared, assessment: Assessment, *, fingerprints: bool) -> NewObservation:
    """Classes of the acquisition, figures of the pixels and scores of one film; no identifier, no pixel.

    Args:
        prepared: the film as it was read.
        assessment: what the model said of it.
        fingerprints: whether the site's policy lets the model's features be kept.
    """
    facts, quality = prepared.facts, prepared.quality
    scores = [assessment.probs[name] for name in assessment.findings] if assessment.analysed else None
    features = assessment.features if fingerprints else None
    return NewObservation(
        outcome=assessment.outcome,
        device=_word(facts.device),
        view_position=_view(facts.view_position),
        sex=_word(facts.sex),
        age_band=age_band(facts.age_years),
        size_class=f"{round(quality.height / 1000)}x{round(quality.width / 1000)}",
        statistics=np.array([getattr(quality, name) for name in STATISTICS], dtype="<f4").tobytes(),
        scores=None if scores is None else np.array(scores, dtype="<f4").tobytes(),
        features=None if features is None else np.clip(features, -LARGEST, LARGEST).astype("<f2").tobytes(),
    )


def age_band(age_years: float | None) -> str:
    """Ten years wide, such as ``40-49``; from 90 on one band, since few people are so old."""
    if age_years is None or not 0 <= age_years < 150:
        return NOT_RECORDED
    low = min(90, 10 * int(age_years // 10))
    return "90+" if low == 90 else f"{low}-{low + 9}"


def _view(position: str | None) -> str:
    """A term of DICOM's; another text could hold a name, and counts as one class."""
    return position if position in VIEW_POSITIONS else ANOTHER if position else NOT_RECORDED


def _word(text: str | None) -> str:
    """A class's name: printable, without line breaks, at most 64 characters."""
    printable = "".join(letter for letter in text or "" if letter.isprintable()).strip()
    return printable[:64] or NOT_RECORDED
