"""The page template: every block, escaped, self-contained, in order."""

from html.parser import HTMLParser

import pytest

from hilum.reports.figures import Figure
from hilum.reports.page import (
    DISCLAIMER,
    Bullets,
    Card,
    Cards,
    Code,
    Details,
    Facts,
    Figures,
    Gallery,
    Link,
    Links,
    Notice,
    Page,
    Paragraph,
    Picture,
    Section,
    VerdictBox,
    data_uri,
    figures_of,
    render_page,
)
from hilum.reports.tables import Cell, Column, table

EVIL = "<img src=x onerror=alert(1)>\"'&"
FIGURE = Figure(name="f", title=EVIL, caption=EVIL, alt=EVIL, png=b"png", svg=b"<svg/>")
BLOCKS = (
    Paragraph(EVIL),
    Bullets((EVIL, "two")),
    Notice(tone="amber", text=EVIL),
    table(
        EVIL,
        [Column(title=EVIL, unit=EVIL), Column(title="n", number=True)],
        [[EVIL, Cell(text="1", detail=EVIL, reason=EVIL, tone="red")]],
    ),
    Figures((FIGURE,)),
    Gallery(caption=EVIL, items=(Picture(png=b"x", title=EVIL, text=EVIL, tone="green"),)),
    Facts(((EVIL, EVIL),)),
    Code(EVIL),
    Links((Link(title=EVIL, href="../index.html#s0", text=EVIL), Link(title="bare", href="#s1"))),
    Cards(
        (
            Card(title=EVIL, href="a/b.html", question=EVIL, finding=EVIL, figure=FIGURE, note=EVIL, tone="amber"),
            Card(title="bare", href="c.html"),
        )
    ),
    Details(summary=EVIL, blocks=(Paragraph("inside"), Figures((FIGURE,)))),
)
PAGE = Page(
    title=EVIL,
    subtitle=EVIL,
    verdict=VerdictBox(tone="red", headline=EVIL, lists=(("Why", (EVIL,)), ("Empty", ()))),
    notices=(Notice(tone="note", text=EVIL),),
    sections=tuple(Section(title=f"S{i}", name=f"s{i}", blocks=BLOCKS) for i in range(3)),
    footer=EVIL,
)


class Balanced(HTMLParser):
    """Checks that every element is closed, and collects elements, attributes and text."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> Balanced:
    return Balanced(render_page(PAGE))


def test_every_element_is_closed(page: Balanced) -> None:
    assert page.open == []


def test_no_text_becomes_markup(page: Balanced) -> None:
    assert not [tag for tag, attributes in page.tags if "onerror" in attributes]
    assert page.text.count(EVIL) > 20


def test_every_image_is_inside_and_has_words(page: Balanced) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 12
    for attributes in images:
        assert (attributes["src"] or "").startswith("data:image/")
        assert attributes["alt"] == EVIL


def test_nothing_can_be_fetched(page: Balanced) -> None:
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    assert {a["href"] for t, a in page.tags if t == "a"} == {
        "#s0", "#s1", "#s2", "../index.html#s0", "a/b.html", "c.html",
    }  # fmt: skip


def test_the_disclaimer_is_first_and_last(page: Balanced) -> None:
    body = page.text[page.text.index(DISCLAIMER) :].strip()
    assert body.startswith(DISCLAIMER)
    assert body.endswith(DISCLAIMER)


def test_colours_stand_beside_their_word(page: Balanced) -> None:
    words = [attributes for tag, attributes in page.tags if "word" in (attributes.get("class") or "").split()]
    assert len(words) == 1 + 1 + 3  # the verdict, the notice on top, and one in each section


def test_an_empty_list_of_the_verdict_is_left_out(page: Balanced) -> None:
    assert "Why" in page.text
    assert "Empty" not in page.text


def test_a_table_names_its_rows_and_columns(page: Balanced) -> None:
    scopes = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert scopes == ["col", "col", "row"] * 3


def test_a_small_page_has_no_navigation() -> None:
    assert "<nav" not in render_page(Page(title="t", sections=(Section(title="s", name="s", blocks=()),)))
    assert "<nav" in render_page(PAGE)


@pytest.mark.parametrize(
    "href",
    [
        "",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "https://example.org/",
        "//example.org/a",
        "/etc/passwd",
        "data:text/html,x",
        "a b.html",
        "a\\b.html",
        "a.html?x=1",
        "%6aavascript:x",
        "a.html\n",
    ],
)
def test_a_link_leads_nowhere_but_to_the_folder_of_pages(href: str) -> None:
    with pytest.raises(ValueError, match="is not a link inside the folder of pages: give a relative path"):
        Link(title="t", href=href)
    with pytest.raises(ValueError, match="is not a link inside the folder of pages"):
        Card(title="t", href=href)


def test_a_card_shows_the_smaller_form_of_its_figure() -> None:
    light = Figure(name="f", title="t", caption="", alt="a", png=b"png", svg=b"<svg>long</svg>")
    shown = render_page(
        Page(
            title="t",
            sections=(Section(title="s", name="s", blocks=(Cards((Card(title="t", href="a", figure=light),)),)),),
        )
    )
    assert data_uri(b"png", "image/png") in shown
    assert "svg+xml" not in shown


def test_the_lead_is_the_first_line_and_stands_in_for_the_disclaimer() -> None:
    page = Page(title="t", lead=EVIL, lead_tone="amber", disclaimer="", footer="made")
    body = Balanced(render_page(page))
    first = next(attributes for tag, attributes in body.tags if tag == "p")
    assert first["class"] == "lead tone-amber"
    assert body.text[body.text.rindex("}") + 1 :].split() == [*EVIL.split(), "t", "made"]
    assert "disclaimer" not in {attributes.get("class") for _, attributes in body.tags}
    both = Balanced(render_page(Page(title="t", lead="first line"))).text
    assert both.index("first line") < both.index(DISCLAIMER)


def test_figures_of_a_page_are_found_in_order_and_inside_details() -> None:
    assert figures_of(PAGE.sections) == (FIGURE,) * 6


def test_data_uri() -> None:
    assert data_uri(b"abc", "image/png") == "data:image/png;base64,YWJj"
