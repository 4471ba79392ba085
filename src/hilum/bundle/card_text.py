"""The model card as Markdown, which travels in the bundle, and as one self-contained HTML page; both say the same."""

from collections.abc import Sequence

from hilum.bundle.card import CARD_JSON_MEMBER, NOTICE, ModelCard, card_of, read_card
from hilum.bundle.card_sections import NOT_STATED, card_sections
from hilum.bundle.reading import Bundle
from hilum.reports.page import Block, Bullets, Facts, Notice, Page, Paragraph, render_page
from hilum.reports.tables import Cell, Table


def render_card(card: ModelCard) -> str:
    """The card as Markdown; every value from outside is escaped.

    Returns:
        Markdown that ends with a newline.
    """
    parts = [
        f"# {_title(card)}",
        f"**{NOTICE}**",
        *(f"> **Warning.** {_plain(text)}" for text in card.warnings),
    ]
    for section in card_sections(card):
        parts += [f"## {section.title}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def render_card_page(card: ModelCard, *, digest: str = "", signer: str | None = None) -> str:
    """The card as one HTML page that needs nothing else.

    Args:
        card: the card.
        digest: the bundle's, to tell which it belongs to; empty for none.
        signer: id of the key that signed the bundle.
    """
    signed = "unsigned" if signer is None else f"signed by key {signer}"
    about = f"bundle {digest}, {signed}" if digest else ""
    return render_page(
        Page(
            title=_plain_title(card),
            subtitle=f"CHAI Applied Model Card; what no artefact says and nobody stated reads “{NOT_STATED}”.",
            notices=tuple(Notice(tone="red", text=text) for text in card.warnings),
            sections=card_sections(card),
            disclaimer=NOTICE,
            footer=about,
        )
    )


def card_in(bundle: Bundle) -> ModelCard:
    """The card of a bundle: its ``model_card.json``; what ``bundle.json`` knows where there is none.

    Raises:
        BundleError: ``model_card.json`` is no card.
    """
    if CARD_JSON_MEMBER not in bundle.contents:
        return card_of(bundle.info)
    return read_card(bundle.read(CARD_JSON_MEMBER), CARD_JSON_MEMBER)


def _plain_title(card: ModelCard) -> str:
    return f"Model card: {card.name} {card.version}"


def _title(card: ModelCard) -> str:
    return _plain(_plain_title(card))


def _plain(value: object) -> str:
    """One line of text that Markdown and HTML take literally; what is not stated in italics."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = "".join(f"\\{letter}" if letter in "\\`*_[]|#!" else letter for letter in text)
    return text.replace(NOT_STATED, f"*{NOT_STATED}*")


def _block(block: Block) -> str:
    if isinstance(block, Facts):
        return "\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in block.items)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_plain(item)}" for item in block.items)
    if isinstance(block, Table):
        header = [column.title for column in block.columns]
        return f"{_plain(block.caption)}\n\n{_table(header, [[_cell(cell) for cell in row] for row in block.rows])}"
    if isinstance(block, Paragraph):
        return _plain(block.text)
    raise TypeError(f"A model card has no block of the kind {type(block).__name__}.")


def _cell(cell: Cell) -> str:
    return ", ".join(part for part in (cell.text, cell.detail, cell.reason) if part)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[_plain(cell) for cell in row] for row in rows]
    return "\n".join(
        f"| {' | '.join(line)} |" for line in [[_plain(name) for name in header], ["---"] * len(header), *lines]
    )
