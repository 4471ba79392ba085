"""Numbers and intervals as people read them: with a minus sign, and "to" where a dash could be taken for one."""


def numeral(value: float, form: str) -> str:
    """A number with a minus sign instead of a hyphen; what rounds to 0 has no sign.

    Args:
        value: the number.
        form: how it is written, as after the colon of an f-string: ``.2f``, ``,.1f``, ``+.3f``.
    """
    text = f"{value:{form}}"
    if not any(digit in text for digit in "123456789") and "0" in text:
        text = text.replace("-", "").replace("+", "")
    return text.replace("-", "\u2212")


def interval(low: float, high: float, form: str) -> str:
    """Bounds of an interval: ``0.64–0.79``, and ``−0.12 to 0.03`` where one of them is negative.

    Args:
        low: lower bound.
        high: upper bound.
        form: how both are written, see :func:`numeral`.
    """
    return joined(numeral(low, form), numeral(high, form))


def joined(low: str, high: str) -> str:
    """Bounds that are written already, put together in the same way."""
    return f"{low} to {high}" if low.startswith("\u2212") or high.startswith("\u2212") else f"{low}–{high}"
