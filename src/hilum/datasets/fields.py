"""How the values of a table about films are read: names of columns, and one parser for each, as literal tables."""

import datetime
import re
from collections.abc import Callable

from hilum.datasets.chest_labels import finding_of
from hilum.errors import LabelError, nearest

HEADINGS: dict[str, tuple[str, ...]] = {
    "path": ("path", "image", "file", "filename", "image index", "film"),
    "film_id": ("film id", "sha256", "sha 256"),
    "patient_id": ("patient id", "patientid", "patient", "subject id"),
    "label": ("label", "finding", "finding labels", "class", "diagnosis"),
    "source": ("source", "hospital", "site"),
    "view_position": ("view position", "view"),
    "age_years": ("age years", "age", "patient age"),
    "sex": ("sex", "gender", "patient sex", "patient gender"),
    "acquired": ("acquired", "date", "study date", "acquisition date"),
    "device": ("device", "device model", "manufacturer model name"),
    "manufacturer": ("manufacturer",),
    "mask": ("mask", "mask path"),
    "licence": ("licence", "license"),
}
"""Column → its headings in tables, in lower case with signs as spaces; the first one present is taken."""

VIEWS: dict[str, tuple[str, ...]] = {
    "PA": ("pa", "posteroanterior"),
    "AP": ("ap", "anteroposterior", "ap supine", "ap erect", "ap portable", "ap semi erect"),
    "LL": ("ll", "l", "lateral", "lat", "left lateral"),
    "RL": ("rl", "right lateral"),
    "LLD": ("lld",),
    "RLD": ("rld",),
    "LLO": ("llo",),
    "RLO": ("rlo",),
}
"""View Position (0018,5101), PS3.3 C.8.11.5.1.1 → what tables call it."""

SEXES: dict[str, tuple[str, ...]] = {"M": ("m", "male"), "F": ("f", "female"), "O": ("o", "other")}
"""Patient's Sex (0010,0040), PS3.3 C.7.1.1 → what tables call it."""

UNKNOWN = ("", "unknown", "unk", "u", "na", "n a", "nan", "none", "null", "not recorded", "missing")
"""What tables write where they don't know; a label of "none" is a finding's synonym, so labels don't use this."""

SHA256 = re.compile(r"[0-9a-f]{64}")

OLDEST = 120
"""Years; a greater age is a fault of the table (NIH ChestX-ray14 has ages of up to 414)."""

UNITS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
"""Letters of a DICOM age string (PS3.5 §6.2, AS) → how many make a year."""

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            *("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july"),
            *("aug august", "sep sept september", "oct october", "nov november", "dec december"),
        ),
        start=1,
    )
    for name in names.split()
}


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def heading(text: str) -> str | None:
    """The column that a heading means; None when it is none of :data:`HEADINGS`."""
    return next((column for column, names in HEADINGS.items() if _words(text) in names), None)


def read_text(text: str) -> str:
    """A text without blanks around it."""
    return text.strip()


def read_sha256(text: str) -> str:
    """A SHA-256 as 64 hex digits in lower case, or blank.

    Raises:
        ValueError: something else.
    """
    found = text.strip().lower()
    if found and not SHA256.fullmatch(found):
        raise ValueError(f"film_id {text.strip()!r} is not a SHA-256 (64 hex digits). Correct it, or leave it blank.")
    return found


def read_patient(text: str) -> str:
    """A patient id; blank where the table says that it isn't known.

    Blank and "unknown" must not become one patient with many films.
    """
    return "" if _words(text) in UNKNOWN else text.strip()


def read_label(text: str) -> str:
    """A chest finding, or blank.

    Raises:
        ValueError: the label is unknown; the message lists the known ones, the nearest first.
    """
    if not text.strip():
        return ""
    try:
        return finding_of(text)
    except LabelError as error:
        raise ValueError(str(error)) from None


def read_view(text: str) -> str:
    """A view position as DICOM names it, or blank.

    Raises:
        ValueError: the view is unknown.
    """
    return _one_of("view_position", text, VIEWS)


def read_sex(text: str) -> str:
    """M, F, O or blank.

    Raises:
        ValueError: the sex is unknown.
    """
    return _one_of("sex", text, SEXES)


def _one_of(name: str, text: str, table: dict[str, tuple[str, ...]]) -> str:
    words = _words(text)
    if words in UNKNOWN:
        return ""
    for value, synonyms in table.items():
        if words in synonyms:
            return value
    raise ValueError(f"{name} {text.strip()!r} is unknown. {nearest(text.strip().upper(), list(table))}")


def read_age(text: str) -> float:
    """An age in years, from a number or a DICOM age string such as ``018M``; NaN where not known.

    Raises:
        ValueError: not an age, or not in 0 … 120 years.
    """
    if _words(text) in UNKNOWN:
        return float("nan")
    match = re.fullmatch(r"(\d{1,4}(?:\.\d*)?)\s*([DWMY]?)", text.strip().upper())
    years = float(match[1]) / UNITS[match[2] or "Y"] if match else float("nan")
    if not 0 <= years <= OLDEST:
        raise ValueError(
            f"age {text.strip()!r} is not an age in years from 0 to {OLDEST}. Correct it, or leave it blank."
        )
    return years


def read_date(text: str) -> str:
    """A date as ISO 8601, as exact as the text is certain.

    ``2020``, ``2020-03``, ``2020-03-17``, ``20200317``, ``March 2020``, ``Mar 17, 2020``, ``17 March 2020`` and
    ``3/17/2020`` are read. Of ``3/4/2020``, which is in March or in April, the year alone is certain and kept.

    Raises:
        ValueError: not a date, or one that doesn't exist.
    """
    if _words(text) in UNKNOWN:
        return ""
    try:
        year, month, day = _date_parts(text.strip())
        datetime.date(year, month or 1, day or 1)
        if not 1895 <= year <= 2200:
            raise ValueError
    except (ValueError, KeyError):
        raise ValueError(
            f"date {text.strip()!r} is not a date. Write it as 2020-03-17, 2020-03 or 2020, or leave it blank."
        ) from None
    return "-".join(f"{part:02d}" for part in (year, month, day) if part)


def _date_parts(text: str) -> tuple[int, int, int]:
    """Year, month, day; 0 for what isn't known.

    Raises:
        ValueError: not a date.
        KeyError: not a month's name.
    """
    if match := re.fullmatch(r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2})(?:[T ].*)?)?)?", text):
        return int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if match := re.fullmatch(r"(\d{4})(\d\d)(\d\d)", text):
        return int(match[1]), int(match[2]), int(match[3])
    if match := re.fullmatch(r"([A-Za-z]+)\.?\s+(?:(\d{1,2})(?:st|nd|rd|th)?,?\s+)?(\d{4})", text):
        return int(match[3]), MONTHS[match[1].lower()], int(match[2] or 0)
    if match := re.fullmatch(r"(\d{1,2})\.?\s+([A-Za-z]+)\.?,?\s+(\d{4})", text):
        return int(match[3]), MONTHS[match[2].lower()], int(match[1])
    if match := re.fullmatch(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d\d)", text):
        return _day_or_month_first(int(match[1]), int(match[2]), int(match[3]))
    raise ValueError


def _day_or_month_first(first: int, second: int, year: int) -> tuple[int, int, int]:
    # Two digits: no film is older than 1930, and none comes from the future's 2030s.
    year += 0 if year > 99 else (2000 if year < 30 else 1900)
    if first == second or second > 12:
        return year, first, second
    if first > 12:
        return year, second, first
    return year, 0, 0


PARSERS: dict[str, Callable[[str], str | float]] = {
    "path": read_text,
    "film_id": read_sha256,
    "patient_id": read_patient,
    "label": read_label,
    "source": read_text,
    "view_position": read_view,
    "age_years": read_age,
    "sex": read_sex,
    "acquired": read_date,
    "device": read_text,
    "manufacturer": read_text,
    "mask": read_text,
    "licence": read_text,
}
"""Column → the function that reads one of its values, or raises ValueError with a clause that says what is wrong."""
