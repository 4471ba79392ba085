"""What data sets call the chest findings: one literal table of synonyms."""

import re

from hilum.errors import LabelError, nearest
from hilum.labels import CHEST

SYNONYMS: dict[str, tuple[str, ...]] = {
    "normal": ("normal", "no finding", "no findings", "healthy", "negative", "control", "clear", "norm", "none"),
    "pneumonia": (
        "pneumonia",
        "bacterial pneumonia",
        "viral pneumonia",
        "community acquired pneumonia",
        "lobar pneumonia",
        "non covid pneumonia",
        "pneumonia bacterial",
        "pneumonia viral",
        "cap",
    ),
    "covid-19": (
        "covid 19",
        "covid19",
        "covid",
        "sars cov 2",
        "sarscov2",
        "sars cov2",
        "corona",
        "coronavirus",
        "covid 19 pneumonia",
        "covid pneumonia",
        "pneumonia covid 19",
        "pneumonia viral covid 19",
        "covid positive",
        "ncov",
        "2019 ncov",
    ),
}
"""Finding → what it is called elsewhere, in lower case with every run of other signs as one space."""

_FINDING_BY_NAME = {synonym: finding for finding, synonyms in SYNONYMS.items() for synonym in synonyms}

SEVERAL = re.compile(r"[|;]|,\s")
"""What separates several findings in one value, such as ``Effusion|Pneumonia`` in NIH ChestX-ray14."""


def plain(text: str) -> str:
    """Lower case, with every run of signs that are neither letters nor digits as one space."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def is_known(text: str) -> bool:
    """Whether a text names a chest finding."""
    return plain(text) in _FINDING_BY_NAME


def finding_of(text: str) -> str:
    """The chest finding that a label means.

    Args:
        text: a label as a data set writes it, such as ``SARS-CoV-2`` or ``No Finding``.

    Returns:
        one of ``CHEST.names``.

    Raises:
        LabelError: the label is unknown, in doubt, or names several findings; the message lists the known ones.
    """
    if "?" in text:
        # A reader's doubt must not become a certain label.
        raise LabelError(f"label {text!r} is in doubt. Decide on one of {', '.join(CHEST.names)}, or leave it blank.")
    if plain(text) in _FINDING_BY_NAME:
        return _FINDING_BY_NAME[plain(text)]
    if SEVERAL.search(text.strip()):
        raise LabelError(f"label {text!r} names several findings, but a film has one of {', '.join(CHEST.names)}.")
    raise LabelError(f"label {text!r} is not a finding. {_known(text)}")


def _known(text: str) -> str:
    """The findings, the one with the nearest synonym first."""
    import difflib

    close = difflib.get_close_matches(plain(text), _FINDING_BY_NAME, n=1, cutoff=0.6)
    return nearest(_FINDING_BY_NAME[close[0]] if close else text, CHEST.names)
