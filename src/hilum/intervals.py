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


def p_value(p: float, form: str = ".3f", *, least: float = 0.001, equals: str = "") -> str:
    """A p-value as people read it: ``0.012``, and ``< 0.001`` for less than that. JSON files hold it exactly.

    Args:
        p: the p-value, 0 … 1.
        form: how it is written from ``least`` on, see :func:`numeral`.
        least: below it only that it is below is told.
        equals: stands before a value that is told, as ``= `` does in a sentence.
    """
    return f"< {least:g}" if p < least else equals + numeral(p, form)


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
