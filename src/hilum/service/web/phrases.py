"""Words for states and numbers, the same on every page."""

from datetime import UTC, date, datetime, timedelta

STATE_WORDS = {
    "received": "waiting",
    "preparing": "in work",
    "answered": "answered",
    "not-analysed": "not analysed",
    "failed": "unreadable",
    "quarantined": "set aside",
}

READING_WORDS = {
    "unread": "not read",
    "once": "read once",
    "read": "read",
    "disagreement": "readers differ",
    "settled": "settled",
}

COMES_WORDS = {"reading": "after your own reading", "label": "after your label"}
"""When an answer that is covered will be shown."""

DOOR_WORDS = {
    "rest": "over REST",
    "dicom": "over DICOM",
    "dicomweb": "over DICOMweb",
    "pacs": "from the PACS, as an earlier film",
}

HOME_WORDS = {
    "/": "Back to the worklist",
    "/operations": "Back to operations",
    "/models": "Back to the models",
    "/audit": "Back to the audit",
}

DECISION_WORDS = {
    "opinion": "said before the answer",
    "agree": "agreed",
    "override": "overrode",
    "adjudicate": "settled",
}

# Least probability, phrase: the five steps of a lexicon of certainty for radiology reports (Panicek and Hricak,
# AJR 2016), with the borders half-way between them.
PROBABILITY_PHRASES = (
    (0.90, "consistent with"),
    (0.625, "probable"),
    (0.375, "possible"),
    (0.10, "less likely"),
    (0.00, "unlikely"),
)


def probability_phrase(probability: float) -> str:
    """A probability in words; a NaN is ``not known``."""
    return next((phrase for least, phrase in PROBABILITY_PHRASES if probability >= least), "not known")


def percent(probability: float) -> str:
    """A probability as a whole percentage, never 0 % or 100 %: a model is not certain."""
    if probability < 0.01:
        return "< 1 %"
    return "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def door_words(origin: str, calling_ae: str) -> str:
    """Which way a film came, and over DICOM from whom."""
    words = DOOR_WORDS.get(origin, origin)
    return f"{words}, AE title {calling_ae}" if calling_ae else words


def waited(since: datetime, now: datetime) -> str:
    """How long ago, within a day; empty for longer."""
    minutes = int(max(now - since, timedelta()).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 24 * 60 else ""


def came(at: datetime, now: datetime) -> str:
    """When something came, in UTC: the time within a day, the date with it for longer."""
    return f"{at.astimezone(UTC):{'%H:%M' if waited(at, now) else '%Y-%m-%d %H:%M'}}"


def size_words(size: int) -> str:
    """A number of bytes in words, as ``1.5 GiB``."""
    number, units = float(size), ("bytes", "KiB", "MiB", "GiB", "TiB")
    at = 0
    while number >= 1024 and at < len(units) - 1:
        number, at = number / 1024, at + 1
    return f"{number:.1f} {units[at]}" if at else f"{size} bytes"


def how_long_before(earlier: date, later: date) -> str:
    """How long one day was before another, in words: ``the same day``, ``12 days before``, ``2 years 1 month before``.

    A day that was not before says so: ``3 days after``.
    """
    if earlier == later:
        return "the same day"
    first, last = sorted((earlier, later))
    months = 12 * (last.year - first.year) + last.month - first.month - (last.day < first.day)
    if months < 2:
        long = _counted((last - first).days, "day")
    elif months < 24:
        long = _counted(months, "month")
    else:
        long = _counted(months // 12, "year") + (f" {_counted(months % 12, 'month')}" if months % 12 else "")
    return f"{long} {'before' if earlier < later else 'after'}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
