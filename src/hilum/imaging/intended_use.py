"""The intended-use gate: adult, frontal, CR or DX, for presentation, a chest, a readable grey picture.

Every check says pass, fail or unknown, and one sentence why. A fail always means "not analysed"; what an unknown means
is the site's policy. The header is asked about the examination, the pixels about the picture. Whether two lungs lie
beside each other is asked of the picture too, whatever the header says; an answer there is "pass" or "unknown", since
disease changes lungs and other things can look like them. The distance from the training films in the classifier's
feature space follows later.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hilum.config import from_mapping
from hilum.errors import ConfigError, nearest
from hilum.imaging.dicom_terms import BODY_PARTS, MODALITIES, PRESENTATION_INTENTS, VIEW_POSITIONS
from hilum.imaging.quality import Quality
from hilum.imaging.radiograph import Described

Outcome = Literal["pass", "fail", "unknown"]

DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"

# Words that devices add to the body part without changing it.
_ADDED = frozenset(["AP", "PA", "PORT", "PORTABLE", "BEDSIDE", "ADULT", "XR"])


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What a site lets be analysed.

    Raises:
        ConfigError: ``refuse_unknown`` names a check that doesn't exist.
    """

    modalities: tuple[str, ...] = ("CR", "DX")
    """Modalities that are analysed."""
    views: tuple[str, ...] = ("AP", "PA")
    """View positions that are analysed."""
    body_parts: tuple[str, ...] = ("CHEST", "THORAX", "LUNG")
    """Body parts that are analysed."""
    minimum_age_years: float = 18.0
    """Younger patients are not analysed."""
    minimum_side: int = 128
    """Fewer rows or columns hold too little to read."""
    minimum_contrast: float = 0.02
    """Less contrast (see `Quality.contrast`) is a blank film."""
    maximum_flat_share: float = 0.98
    """A larger share of black, or of white, is a blank film."""
    minimum_structure: float = 0.5
    """Less structure (see `Quality.structure`) is noise; films have more than 0.9."""
    minimum_frontal_fit: float = 0.35
    """Less fit (see `Quality.frontal_fit`) leaves unknown whether the picture is an upright frontal chest."""
    second_decoder: bool = True
    """Compressed films are decoded by two decoders, and refused when these disagree; twice the time of decoding."""
    refuse_unknown: tuple[str, ...] = ()
    """Codes of the checks whose unknown means "not analysed"; by default an unknown is named and the film analysed."""

    def __post_init__(self) -> None:
        problems = [
            f"GatePolicy.refuse_unknown holds {code!r}. {nearest(code, list(CHECKS))}"
            for code in self.refuse_unknown
            if code not in CHECKS
        ]
        if problems:
            raise ConfigError(problems)


def read_policy(path: Path) -> GatePolicy:
    """A site's policy from a JSON file; fields that are left out keep their defaults.

    Raises:
        ConfigError: the file can't be read, is no JSON object, or a field is wrong.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"The gate policy {path.name} can't be read as JSON: {type(error).__name__}."]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"The gate policy {path.name} holds {type(values).__name__}, not an object of fields."])
    return from_mapping(GatePolicy, values, where=path.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question of the gate and its answer."""

    code: str
    """Stable name, a key of `CHECKS`."""
    outcome: Outcome
    """pass, fail or unknown."""
    sentence: str
    """Why, for a person."""
    refuses: bool = False
    """True when this answer alone keeps the film from being analysed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The gate's verdict."""

    analyse: bool
    """True when the film may be analysed."""
    checks: tuple[Check, ...]
    """Every check, in the order of `CHECKS`."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences of the checks that keep the film from being analysed."""
        return tuple(check.sentence for check in self.checks if check.refuses or check.outcome == "fail")

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Sentences of the checks that could not be answered and did not refuse."""
        return tuple(check.sentence for check in self.checks if check.outcome == "unknown" and not check.refuses)


def check_intended_use(film: Described, quality: Quality, policy: GatePolicy) -> Gate:
    """Ask every question of the gate.

    Args:
        film: the film; of its pixels only the measures are asked.
        quality: its measures, from `hilum.imaging.quality.measure_quality`.
        policy: what the site lets be analysed.
    """
    checks = []
    for code, question in CHECKS.items():
        outcome, sentence = question(film, quality, policy)
        refuses = outcome == "fail" or (outcome == "unknown" and code in policy.refuse_unknown)
        checks.append(Check(code=code, outcome=outcome, sentence=sentence, refuses=refuses))
    return Gate(analyse=not any(check.refuses for check in checks), checks=tuple(checks))


Answer = tuple[Outcome, str]


@dataclass(frozen=True, slots=True)
class _Attribute:
    """Where the header says it, and which of its values may be quoted."""

    what: str
    tag: str
    terms: frozenset[str]


_LONGEST_QUOTED = 64

_MODALITY = _Attribute("Modality", "(0008,0060)", MODALITIES)
_INTENT = _Attribute("Presentation intent", "(0008,0068)", PRESENTATION_INTENTS)
_VIEW = _Attribute("View position", "(0018,5101)", VIEW_POSITIONS)
_BODY_PART = _Attribute("Body part", "(0018,0015)", BODY_PARTS)


def _among(value: str | None, allowed: tuple[str, ...], at: _Attribute, words: Sequence[str] = ()) -> Answer:
    if value is None:
        return "unknown", f"{at.what} is not recorded."
    if value in allowed:
        return "pass", f"{at.what} is {value}."
    only = f"but only {', '.join(allowed)} are analysed."
    if len(value) <= _LONGEST_QUOTED and at.terms.issuperset(words or (value,)):
        return "fail", f"{at.what} is {value}, {only}"
    # Free text could hold a name, and this goes into the records and out.
    return "fail", f"{at.what} {at.tag} holds a text that is none of DICOM's terms for it, {only}"


def _modality(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    return _among(film.facts.modality, policy.modalities, _MODALITY)


def _presentation(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    intent = film.facts.presentation_intent
    if intent is not None:
        return _among(intent, ("FOR PRESENTATION",), _INTENT)
    if film.facts.sop_class_uid == CR_IMAGE:
        return "pass", "A Computed Radiography object has no presentation intent and is meant to be looked at."
    if film.facts.sop_class_uid == DX_FOR_PRESENTATION:
        return "pass", "The object's class is Digital X-Ray for presentation."
    return "unknown", "Presentation intent is not recorded."


def _view(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    if film.facts.view_position is None and film.facts.patient_orientation:
        # (L, F) is frontal; (A, F) and (P, F) are lateral (PS3.3 C.7.6.1.1.1).
        row = film.facts.patient_orientation[0][:1]
        if row in ("L", "R"):
            return "pass", "View position is not recorded, but the patient's orientation is frontal."
        if row in ("A", "P"):
            return "fail", "View position is not recorded, and the patient's orientation is lateral, not frontal."
    return _among(film.facts.view_position, policy.views, _VIEW)


def _frontal_picture(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    fit = f"{quality.frontal_fit:.2f}"
    if quality.frontal_fit >= policy.minimum_frontal_fit:
        return "pass", f"The picture fits two lungs beside each other (fit {fit})."
    return "unknown", (
        f"The picture doesn't show two lungs beside each other as frontal films do (fit {fit}, usual from "
        f"{policy.minimum_frontal_fit:.2f}): it may be lateral, turned, or no chest, or a lung may be opaque."
    )


def _adult(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    age = film.facts.age_years
    if age is None:
        return "unknown", "Age is not recorded."
    if age >= policy.minimum_age_years:
        return "pass", f"The patient is {policy.minimum_age_years:g} or older."
    return "fail", f"The patient is younger than {policy.minimum_age_years:g} years."


def _body_part(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    recorded = film.facts.body_part
    words = [word for word in re.split(r"[^A-Z]+", recorded or "") if word and word not in _ADDED]
    if recorded and words:
        return _among(" ".join(words), policy.body_parts, _BODY_PART, words)
    return "unknown", "Body part is not recorded, and grey values alone don't tell a chest from something else."


def _grey(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    if film.facts.colour is None:
        return "unknown", "It is not known whether the picture holds colours."
    if film.facts.colour:
        return "fail", "The picture is in colour, and a radiograph is grey."
    return "pass", "The picture is grey."


def _size(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    size = f"{quality.height} × {quality.width}"
    if min(quality.height, quality.width) >= policy.minimum_side:
        return "pass", f"The picture has {size} pixels."
    return "fail", f"The picture has {size} pixels, but needs {policy.minimum_side} each way to be read."


def _exposed(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    if quality.black_share > policy.maximum_flat_share:
        return "fail", f"{quality.black_share:.1%} of the picture is black."
    if quality.white_share > policy.maximum_flat_share:
        return "fail", f"{quality.white_share:.1%} of the picture is white."
    if quality.contrast < policy.minimum_contrast:
        return "fail", f"The picture is blank: its contrast is {quality.contrast:.1%} of black to white."
    if quality.structure < policy.minimum_structure:
        return "fail", f"The picture is noise: neighbouring pixels correlate at {quality.structure:.2f}."
    return "pass", "The picture is neither blank nor noise."


def _polarity(film: Described, quality: Quality, policy: GatePolicy) -> Answer:
    if "polarity-contradiction" in film.flags:
        return "unknown", "The header contradicts itself about whether the picture is inverted."
    return "pass", "The header doesn't contradict itself about black and white."


CHECKS: dict[str, Callable[[Described, Quality, GatePolicy], Answer]] = {
    "modality": _modality,
    "presentation": _presentation,
    "view": _view,
    "frontal-picture": _frontal_picture,
    "adult": _adult,
    "body-part": _body_part,
    "grey": _grey,
    "size": _size,
    "exposed": _exposed,
    "polarity": _polarity,
}
"""Every check by its code, in the order in which a person would ask."""
