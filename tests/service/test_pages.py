"""The pages: ordered by risk, live, escaped, and saying what they are."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom, png

from hilum.records.priors import Prior
from hilum.service.app import Running, running
from hilum.service.web.phrases import came, how_long_before, percent, probability_phrase, waited
from hilum.service.web.views import prior_words

XSS = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = settings_in(tmp_path_factory.mktemp("pages"), dicom_port=None)
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        yield http


def send(http: httpx.Client, body: bytes) -> str:
    kind = "image/png" if body.startswith(b"\x89") else "application/dicom"
    reply = http.post("/api/v1/studies", content=body, headers={"Content-Type": kind}, params={"wait": 60})
    return str(reply.json()["id"])


def test_an_empty_worklist_says_how_to_send(alone: Running) -> None:
    with httpx.Client(base_url=alone.url, timeout=90, headers=let_in(alone)) as http:
        text = http.get("/").text
    assert "No films yet" in text
    assert "not for diagnosis" in text


def test_the_worklist_is_ordered_by_risk(pages: httpx.Client) -> None:
    ids = {level: send(pages, png(level)) for level in (60, 240, 150)}
    shown = re.findall(r'href="/films/([0-9a-f]{32})"', pages.get("/").text)
    places = [shown.index(ids[level]) for level in (240, 150, 60)]
    assert places == sorted(places)


def test_a_line_tells_the_probability_of_the_finding_apart_from_the_risk(pages: httpx.Client) -> None:
    """A spread beside the risk was read as the risk's own."""
    film_id = send(pages, png(203))
    text = pages.get("/").text
    row = text.partition(f'href="/films/{film_id}"')[2].partition("</tr>")[0]
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row))
    assert "possible pneumonia 60 % ± 3 % 80 % not read" in said
    columns = re.findall(r'<th scope="col">(.*?)</th>', text)
    assert columns[4:6] == ["Finding", "Its probability"]
    assert "a film that has waited 60 min goes before fresher ones" in text


def test_the_rows_alone_are_what_the_script_asks_for(pages: httpx.Client) -> None:
    rows = pages.get("/", params={"part": "rows"}).text
    assert "<html" not in rows
    assert rows.count("<tr") == pages.get("/").text.count("<tr") - 1  # the page has a heading row


def test_a_film_page_shows_answer_spread_gate_and_provenance(pages: httpx.Client) -> None:
    film_id = send(pages, png(204))
    text = pages.get(f"/films/{film_id}").text
    for words in ("<h2>pneumonia</h2>", "60 %", "± 3 %", "positive", "A chest.", "bundle sha256", "5" * 64):
        assert words in text
    assert "not for diagnosis" in text
    assert f'data-study="{film_id}"' in text
    assert "treat it as not validated" in text  # the small model has no card
    assert f'data-layer="/api/v1/studies/{film_id}/heatmap/pneumonia.png"' in text


def test_a_film_without_an_answer_says_why(pages: httpx.Client) -> None:
    text = pages.get(f"/films/{send(pages, png(77)[:50])}").text
    assert "No answer" in text
    assert "can&#39;t be read" in text


def test_next_leads_through_the_whole_worklist_and_round(alone: Running) -> None:
    with httpx.Client(base_url=alone.url, timeout=90, headers=let_in(alone)) as http:
        sent = {level: send(http, png(level, 18)) for level in (61, 0, 151, 241)}
        order = re.findall(r'href="/films/([0-9a-f]{32})"', http.get("/").text)
        assert sorted(order) == sorted(sent.values())
        at, walked = order[0], [order[0]]
        while (at := http.get("/films/next", params={"after": at}).headers["location"].rpartition("/")[2]) != order[0]:
            walked.append(at)
        assert walked == order == [sent[level] for level in (241, 151, 0, 61)], "who has no risk stands in the middle"
        assert http.get("/films/next").headers["location"] == f"/films/{order[0]}"


def test_a_film_page_says_which_way_it_came_and_offers_no_agreement_where_there_is_no_finding(
    pages: httpx.Client,
) -> None:
    answered, black = (pages.get(f"/films/{send(pages, png(level))}").text for level in (205, 0))
    assert re.search(r"<dt>Received</dt><dd><time [^>]*>[^<]* UTC</time>, over REST</dd>", answered)
    assert ("data-no-finding" in answered, "data-no-finding" in black) == (False, True)


def test_what_a_film_says_of_itself_is_escaped_and_names_are_not_shown(pages: httpx.Client) -> None:
    film_id = send(pages, dicom(301, 99, PatientName=f"Canary^{XSS}", PatientID=XSS, AccessionNumber="A<b>&\"'"))
    for path in ("/", f"/films/{film_id}"):
        text = pages.get(path).text
        assert "A&lt;b&gt;&amp;&#34;&#39;" in text
        assert "alert(1)" not in text
        assert "Canary" not in text


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(pages: httpx.Client) -> None:
    """The content security policy would block it."""
    film_id = send(pages, png(88))
    for path in ("/", f"/films/{film_id}", "/films/none"):
        text = pages.get(path).text
        assert "<style" not in text
        assert not re.search(r"\sstyle=|\son\w+=", text)
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
        addresses = re.findall(r'(?:src|href|data-layer)="([^"]+)"', text)
        assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in addresses)
        for address in {a.partition("#")[0] for a in addresses if a.startswith("/static/")}:
            assert pages.get(address).status_code == 200


def test_scripts_and_styles_are_kept_by_the_browser_until_they_change(pages: httpx.Client) -> None:
    addresses = set(re.findall(r'"(/static/[^"#]+)', pages.get(f"/films/{send(pages, png(89))}").text))
    assert len(addresses) > 10
    for address in addresses:
        assert re.match(r"/static/[0-9a-f]{8}/", address)
        assert "immutable" in pages.get(address).headers["cache-control"]
    assert pages.get("/static/film.js").headers["cache-control"] == "no-cache"
    other = pages.get("/static/00000000/film.js")
    assert (other.status_code, other.headers["cache-control"]) == (404, "no-cache")


def test_the_navigation_says_which_page_this_is(pages: httpx.Client) -> None:
    for path in ("/", "/upload"):
        assert re.findall(r'href="([^"]+)"[^>]* aria-current="page"', pages.get(path).text) == [path]


def test_an_unknown_film_has_a_page_that_leads_back(pages: httpx.Client) -> None:
    reply = pages.get(f"/films/{'0' * 32}")
    assert (reply.status_code, 'href="/"' in reply.text) == (404, True)


@pytest.mark.parametrize(
    ("probability", "phrase", "words"),
    [
        (0.999, "consistent with", "> 99 %"),
        (0.7, "probable", "70 %"),
        (0.5, "possible", "50 %"),
        (0.2, "less likely", "20 %"),
        (0.004, "unlikely", "< 1 %"),
    ],
)
def test_a_probability_in_words(probability: float, phrase: str, words: str) -> None:
    assert (probability_phrase(probability), percent(probability)) == (phrase, words)


@pytest.mark.parametrize(
    ("seconds", "words", "when"),
    [
        (-5, "just now", "06:00"), (59, "just now", "05:59"), (60, "1 min ago", "05:59"),
        (3660, "1 h ago", "04:59"), (86340, "23 h ago", "06:01"), (200000, "", "2026-01-02 22:26"),
    ],
)  # fmt: skip
def test_waiting_in_words_and_the_day_where_it_is_another(seconds: int, words: str, when: str) -> None:
    now = datetime(2026, 1, 5, 6, tzinfo=UTC)
    at = now - timedelta(seconds=seconds)
    assert (waited(at, now), came(at, now)) == (words, when)


@pytest.mark.parametrize(
    ("earlier", "later", "words"),
    [
        ("2026-03-31", "2026-03-31", "the same day"),
        ("2026-03-30", "2026-03-31", "1 day before"),
        ("2026-01-31", "2026-03-30", "58 days before"),
        ("2026-01-30", "2026-03-30", "2 months before"),
        ("2024-04-01", "2026-03-31", "23 months before"),
        ("2024-02-29", "2026-03-31", "2 years 1 month before"),
        ("2023-03-31", "2026-03-31", "3 years before"),
        ("2026-04-02", "2026-03-31", "2 days after"),
    ],
)
def test_how_long_before_another_day_in_words(earlier: str, later: str, words: str) -> None:
    assert how_long_before(date.fromisoformat(earlier), date.fromisoformat(later)) == words


def test_what_stands_over_a_prior_says_its_day_and_how_long_before() -> None:
    received = datetime(2026, 4, 2, 8, tzinfo=UTC)

    def words(taken: date | None, later: date | None, **how: bool) -> str:
        prior = Prior(film_id="f", study_date=taken, received_at=received, later_date=later)
        return prior_words(prior, **how)

    day, later = date(2025, 3, 31), date(2026, 3, 31)
    assert words(day, later) == "Prior 2025-03-31, 12 months before"
    assert words(day, None) == "Prior 2025-03-31"
    assert words(day, later, blinded=True) == "Prior, 12 months before"
    assert words(day, None, blinded=True) == "Prior"
    assert words(None, later) == "Prior, study date not recorded, received 2026-04-02"
    assert words(None, later, blinded=True) == "Prior, study date not recorded"
    assert prior_words(None) == ""


def test_a_wrong_address_is_told_to_a_person_as_a_page_and_to_a_program_as_a_problem(pages: httpx.Client) -> None:
    by_hand = {"Accept": "text/html"}
    page = pages.get("/wherever", headers=by_hand)
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (404, "text/html")
    assert "There is no such page" in page.text
    assert 'class="button" href="/"' in page.text
    wrong = pages.get("/", params={"offset": "many"}, headers=by_hand)
    assert wrong.status_code == 422
    assert "An argument is wrong" in wrong.text
    assert "offset" in wrong.text
    stranger = httpx.get(f"{pages.base_url}/wherever", headers=by_hand)
    assert (stranger.status_code, 'href="/login">Log in' in stranger.text) == (404, True)
    for path, headers in (("/wherever", {}), ("/api/v1/studies/none", by_hand)):
        reply = pages.get(path, headers=headers)
        assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")
