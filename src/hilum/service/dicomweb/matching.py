"""What a search asks for, and whether an object is it (PS3.18 section 8.3.4, PS3.4 annex C.2.2.2)."""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.errors import UsageError
from hilum.service.dicomweb.attributes import INSTANCE, KEPT, SERIES, STUDY

MODALITIES = ("00080061", "CS")
COMPUTED: Mapping[str, tuple[str, str]] = {
    "ModalitiesInStudy": MODALITIES,
    "SOPClassesInStudy": ("00080062", "UI"),
    "NumberOfStudyRelatedSeries": ("00201206", "IS"),
    "NumberOfStudyRelatedInstances": ("00201208", "IS"),
    "NumberOfSeriesRelatedInstances": ("00201209", "IS"),
    "InstanceAvailability": ("00080056", "CS"),
}
KNOWN = {**KEPT, **COMPUTED}
BY_TAG = {tag: name for name, (tag, _) in KNOWN.items()}
MOST_UIDS = 500
RANGES = ("DA", "TM", "DT")
NUMBERS = ("IS", "DS", "US", "SS", "UL", "SL")

LEVELS: Mapping[str, tuple[str, ...]] = {
    "study": (*STUDY, *COMPUTED),
    "series": (*STUDY, *SERIES, *COMPUTED),
    "instance": (*STUDY, *SERIES, *INSTANCE, *COMPUTED),
}
"""Which attributes may be asked for at each level: its own, and those above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search."""

    level: str
    """``study``, ``series`` or ``instance``."""
    keys: Mapping[str, str]
    """What must match, by keyword; empty values match anything."""
    limit: int | None
    """Most results; None for as many as there may be."""
    offset: int
    """So many are left out."""
    fuzzy: bool
    """Fuzzy matching was asked for."""


def read_query(level: str, parameters: Sequence[tuple[str, str]], given: Mapping[str, str]) -> Query:
    """Read a search from an address.

    Args:
        level: what is searched for.
        parameters: names and values behind the question mark.
        given: UIDs in the path, by keyword.

    Raises:
        UsageError: a name is none that can be searched for, or a value is none of its kind. The message quotes neither
            values nor unknown names: they may be anything.
    """
    keys: dict[str, str] = {}
    limit, offset, fuzzy = None, 0, False
    for number, (name, value) in enumerate(parameters, 1):
        lower = name.lower()
        if lower == "limit":
            limit = _number(value, "limit")
        elif lower == "offset":
            offset = _number(value, "offset")
        elif lower == "fuzzymatching":
            fuzzy = _truth(value)
        elif lower == "includefield":
            continue  # all that is kept is told anyway
        elif lower not in ("accept", "charset"):
            keyword = _keyword(name, level, number)
            _check(keyword, value)
            keys[keyword] = value
    for keyword, uid in given.items():
        asked = keys.get(keyword)
        if asked and uid not in re.split(r"[,\\\\]", asked):
            uid = ""  # the path and the question contradict each other: nothing is both
        keys[keyword] = uid or "-"
    return Query(level=level, keys=keys, limit=limit, offset=offset, fuzzy=fuzzy)


def _keyword(name: str, level: str, number: int) -> str:
    keyword = name if name in KNOWN else BY_TAG.get(name.upper().replace(",", ""), "")
    if keyword in LEVELS[level]:
        return keyword
    if keyword:
        raise UsageError(f"{keyword} is no attribute of a {level}. Search at the level below.")
    raise UsageError(
        f"Parameter {number} of the search is no attribute that can be searched for here. docs/dicom.md lists them."
    )


def _check(keyword: str, value: str) -> None:
    vr = KNOWN[keyword][1]
    if len(value) > 40_000 or "\0" in value:
        raise UsageError(f"The value for {keyword} is none.")
    if vr == "UI" and value:
        uids = split_uids(value)
        if len(uids) > MOST_UIDS or not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
            raise UsageError(f"The value for {keyword} is no UID, or no list of at most {MOST_UIDS} UIDs.")
    if vr == "DA" and value and not re.fullmatch(r"\d{8}|\d{8}-|-\d{8}|\d{8}-\d{8}", value):
        raise UsageError(f"The value for {keyword} is no date YYYYMMDD and no range of dates with a hyphen.")
    if vr == "TM" and value and not re.fullmatch(r"[\d.]*-?[\d.]*", value):
        raise UsageError(f"The value for {keyword} is no time HHMMSS and no range of times with a hyphen.")


def split_uids(value: str) -> tuple[str, ...]:
    """A list of UIDs: commas or backslashes keep them apart."""
    return tuple(uid.strip() for uid in re.split(r"[,\\\\]", value) if uid.strip())


def _number(value: str, name: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value):
        raise UsageError(f"{name} is no whole number from 0 on.")
    return int(value)


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise UsageError("fuzzymatching is neither true nor false.")
    return value.lower() == "true"


def matcher(keyword: str, asked: str) -> Callable[[Mapping[str, Any]], bool]:
    """A function that says whether attributes (DICOM JSON model, by tag) match one key."""
    tag, vr = KNOWN[keyword]
    fits = _fits(vr, asked)

    def matches(attributes: Mapping[str, Any]) -> bool:
        values = attributes.get(tag, {}).get("Value") or [""]
        return any(fits(_text(value)) for value in values)

    return matches


def _fits(vr: str, asked: str) -> Callable[[str], bool]:
    if vr == "UI":
        uids = frozenset(split_uids(asked))
        return lambda value: value in uids
    if vr in RANGES:
        return _within(asked)
    if vr in NUMBERS:
        return lambda value: value == asked.strip()
    wanted = asked.casefold() if vr == "PN" else asked
    if vr == "PN":
        wanted = wanted.rstrip("^=")  # components that are left open
    if not re.search(r"[*?]", wanted):
        return lambda value: _folded(value, vr).strip() == wanted.strip()
    # Brackets mean nothing in DICOM, so they must mean nothing here.
    pattern = re.compile(fnmatch.translate(re.sub(r"\[", "[[]", wanted)), re.DOTALL)
    return lambda value: pattern.fullmatch(_folded(value, vr)) is not None


def _folded(value: str, vr: str) -> str:
    return value.casefold().rstrip("^=") if vr == "PN" else value


def _within(asked: str) -> Callable[[str], bool]:
    first, dash, last = asked.partition("-")
    if not dash:
        return lambda value: value == asked
    # A bound with fewer digits stands for all that begin so: "10" as the last hour includes 10:59.
    return lambda value: bool(value) and value >= first and (not last or value[: len(last)] <= last)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "=".join(str(value.get(part, "")) for part in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return "" if value is None else str(value)
