"""One page template for every report: sections are data, the page is one self-contained HTML file.

Nothing is fetched: style is inline, images are data URIs, and a content security policy forbids the rest. All text is
escaped by the template.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from hilum.reports import palette
from hilum.reports.figures import Figure
from hilum.reports.tables import Table

DISCLAIMER = "Assistive, for research and validation; not for diagnosis."

HREF = re.compile(r"(?!/)[A-Za-z0-9_./-]*(#[A-Za-z0-9_-]+)?")
"""A link inside a folder of pages: a relative path, an anchor, or both; no scheme, host, query or escape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictBox:
    """The box on top of a page: what may be claimed, what not, and why."""

    tone: Literal["red", "amber", "green"]
    """Colour; its word is shown as well."""
    headline: str
    """One sentence."""
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Titled lists of sentences; empty ones are left out."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence that must not be overlooked."""

    tone: Literal["red", "amber", "green", "note"]
    """Colour; its word is shown as well."""
    text: str
    """The sentence."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures side by side where there is room."""

    items: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of a gallery."""

    png: bytes
    """PNG; must show no identifier."""
    title: str
    """Short heading, such as ``covid-19, answered covid-19``."""
    text: str = ""
    """What to see."""
    tone: Literal["", "red", "amber", "green"] = ""
    """Colour of its edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Pictures in a grid."""

    caption: str
    """What they are and how they were chosen."""
    items: tuple[Picture, ...]
    """The pictures."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values in two columns."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Text as typed, such as the command that makes the page again."""

    text: str


def _checked_href(href: str) -> None:
    if not href or not HREF.fullmatch(href):
        raise ValueError(
            f"{href!r} is not a link inside the folder of pages: give a relative path, such as 'lenet5/report.html'."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to another page of the same folder."""

    title: str
    """What is linked."""
    href: str
    """Relative path, anchor, or both, such as ``lenet5/report.html#filters``."""
    text: str = ""
    """What is found there."""

    def __post_init__(self) -> None:
        _checked_href(self.href)


@dataclass(frozen=True, slots=True)
class Links:
    """A list of links."""

    items: tuple[Link, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A report in short: question, finding, key figure and the way there."""

    title: str
    """Its title, which is the link."""
    href: str
    """Relative path of the report."""
    question: str = ""
    """What it asks."""
    finding: str = ""
    """What it found, from its measurements."""
    figure: Figure | None = None
    """Its key figure; None for none. It is not among :func:`figures_of`: it belongs to the report."""
    note: str = ""
    """On what it was measured, such as data and budget."""
    tone: Literal["", "amber", "note", "red", "green"] = ""
    """Colour behind the note; the note says the same in words."""

    def __post_init__(self) -> None:
        _checked_href(self.href)


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards side by side where there is room: an index at which one sees what was found."""

    items: tuple[Card, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """A block that is folded on screen and open in print; for what few readers need."""

    summary: str
    """What is inside."""
    blocks: "tuple[Block, ...]"
    """The blocks inside."""


Block = Paragraph | Bullets | Notice | Figures | Gallery | Facts | Code | Links | Cards | Details | Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of a page."""

    title: str
    """Heading."""
    blocks: tuple[Block, ...]
    """What it holds, in order."""
    name: str
    """Anchor in the page's address, such as ``calibration``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    """Heading of the page."""
    subtitle: str = ""
    """One line below it: data, model, date."""
    lead: str = ""
    """The very first line, above the heading: what was measured on what; empty for none."""
    lead_tone: Literal["amber", "note"] = "note"
    """Amber where the data are embedded or a stand-in was measured."""
    verdict: VerdictBox | None = None
    """The box on top; None for none."""
    notices: tuple[Notice, ...] = ()
    """Sentences right below the verdict."""
    sections: tuple[Section, ...] = ()
    """The parts, in order."""
    disclaimer: str = DISCLAIMER
    """Shown on top, and on every printed page; empty for a page that shows nothing clinical."""
    footer: str = ""
    """Last line: what made the page."""


def render_page(page: Page) -> str:
    """The page as one HTML text that needs nothing else.

    Args:
        page: the report.

    Returns:
        HTML 5; every text is escaped, every image is inside.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["uri"] = data_uri
    environment.filters["thumbnail"] = _thumbnail
    environment.tests["block"] = lambda value, name: type(value).__name__ == name
    source = files("hilum.reports").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(page=page, palette=palette)


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a data URI, such as ``data:image/png;base64,…``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _thumbnail(figure: Figure) -> str:
    """A figure in small, in the form that takes less room."""
    if len(figure.svg) <= len(figure.png):
        return data_uri(figure.svg, "image/svg+xml")
    return data_uri(figure.png, "image/png")


def figures_of(sections: Sequence[Section]) -> tuple[Figure, ...]:
    """Every figure of a page, in order, to be written beside it as files."""

    def inside(blocks: Sequence[Block]) -> list[Figure]:
        found: list[Figure] = []
        for block in blocks:
            if isinstance(block, Figures):
                found += block.items
            elif isinstance(block, Details):
                found += inside(block.blocks)
        return found

    return tuple(figure for section in sections for figure in inside(section.blocks))
