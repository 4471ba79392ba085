"""One palette for every figure and page: told apart by colour-blind eyes, in grey print, and on white paper."""

from collections.abc import Sequence

from hilum.errors import nearest

INK = "#1b1f24"
"""Text and axes."""
QUIET = "#5c6570"
"""Secondary text; 5.9:1 on white."""
RULE = "#d4d9df"
"""Grid lines and table rules."""
PAPER = "#ffffff"
"""Background."""

SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Colours of series, in order (Okabe and Ito 2008; its yellow is left out: invisible on paper)."""

STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
"""Line styles that go with the colours, so that a grey print still tells series apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Markers that go with the colours."""

FINDINGS = {"normal": "#009E73", "pneumonia": "#0072B2", "covid-19": "#D55E00"}
"""The clinic's findings have the same colour in every figure."""

TONES = {"red": "#b3261e", "amber": "#8a5a00", "green": "#1b6e3c", "note": "#3d5a80"}
"""Verdict colours, each at least 4.5:1 on white; a word always stands beside them."""

TINTS = {"red": "#fdecea", "amber": "#fff5e0", "green": "#e8f5ec", "note": "#eef3f9"}
"""Backgrounds that go with the tones."""

SHADES = ("#ffffff", "#deebf7", "#9ecae1", "#4292c6", "#08519c", "#08306b")
"""A sequential scale from none to all, falling evenly in lightness."""

STEPS = ("#e2622b", "#c23b5e", "#92278f", "#5a1a9e", "#14106f")
"""A scale for ordered lines, such as depths: falls evenly in lightness, each step at least 3:1 on white."""

DIVERGING = (
    "#7f3b08", "#b35806", "#e08214", "#fdb863", "#fee0b6", "#f7f7f7",
    "#d8daeb", "#b2abd2", "#8073ac", "#542788", "#2d004b",
)  # fmt: skip
"""A scale around 0, from below (orange) to above (purple), safe for colour-blind eyes (ColorBrewer's PuOr)."""


def colour_of(name: str, position: int) -> str:
    """Colour of a series: the finding's own, or the next of :data:`SERIES`.

    Args:
        name: of the series.
        position: among the series of the figure, from 0.
    """
    return FINDINGS.get(name, SERIES[position % len(SERIES)])


def ordered(count: int) -> tuple[str, ...]:
    """Colours of ordered series, from the first to the last step of :data:`STEPS`.

    Args:
        count: how many series.
    """
    places = [i * (len(STEPS) - 1) / max(1, count - 1) for i in range(count)]
    return tuple(_between(STEPS[int(p)], STEPS[min(int(p) + 1, len(STEPS) - 1)], p - int(p)) for p in places)


def _between(first: str, second: str, share: float) -> str:
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def tone(name: str) -> str:
    """Hex colour of a tone.

    Raises:
        ValueError: no such tone; the message lists those there are.
    """
    if name not in TONES:
        raise ValueError(f"{name!r} is not a tone. {nearest(name, tuple(TONES))}")
    return TONES[name]


def luminance(colour: str) -> float:
    """Relative luminance of a hex colour, 0 (black) … 1 (white) (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast of two hex colours, 1 … 21 (WCAG 2.2)."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def text_on(background: str, choices: Sequence[str] = (INK, PAPER)) -> str:
    """The colour of text that reads best on a background."""
    return max(choices, key=lambda choice: contrast(choice, background))
