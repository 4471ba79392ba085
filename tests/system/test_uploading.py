"""Films from a browser: chosen and dropped, out of zips, each with its own reason, and what breaks on the way."""

import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.service.small import png
from tests.system.browser import film, let_in, serving

from hilum.service.app import Running

pytestmark = pytest.mark.system

XSS = "<img src=x onerror=globalThis.hacked=1>.dcm"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("uploading"), largest_film_mb=1) as started:
        yield started


@pytest.fixture
def page(service: Running, browser: Browser) -> Iterator[Page]:
    context = let_in(service, browser, "ada")
    page = context.new_page()
    page.goto("/upload")
    yield page
    context.close()


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    given = [{"name": name, "mimeType": "application/octet-stream", "buffer": content} for name, content in files]
    page.locator("#pick-files").set_input_files(given)  # type: ignore[arg-type]


def test_each_file_tells_what_became_of_it(service: Running, page: Page) -> None:
    choose(
        page,
        ("a.dcm", film(1)),
        (XSS, film(2)),
        ("again.dcm", film(1)),
        ("notes.txt", b"no film"),
        ("empty.dcm", b""),
        ("large.png", png(1)[:8] + bytes(2**20)),
        (".DS_Store", b"x"),
        ("all.zip", zipped(one__x=film(3), two=b"text", inner=zipped(x=b"x"))),
    )
    live = page.locator("#live")
    expect(live).to_have_text("9 of 9 done, 3 received, 1 there already, 5 refused, 1 left out (no films by name)")
    rows = page.locator("#rows")
    for words in (
        "none of DICOM (Part 10 file), PNG, JPEG and zip",
        "empty (0 bytes)",
        "more than the 1048576 accepted",
        "all.zip/one/x",
        "A zip within a zip is not opened",
        XSS,
    ):
        expect(rows).to_contain_text(words)
    assert page.evaluate("globalThis.hacked") is None
    assert len(service.room.store.films(limit=10, viewer="test").films) == 3
    page.get_by_role("link", name="Open the film").first.click()
    page.wait_for_url("**/films/*")


def damaged() -> dict[str, tuple[bytes, str]]:
    """Zips that promise what they don't hold, and what is said of them."""
    whole = zipped(film=film(7))
    end = whole.rfind(b"PK\x05\x06")
    start = struct.unpack_from("<I", whole, end + 16)[0]

    def changed(at: int, form: str, *values: int) -> bytes:
        other = bytearray(whole)
        struct.pack_into(form, other, at, *values)
        return bytes(other)

    return {
        "cut.zip": (whole[: end - 4], "it has no end"),
        "crc.zip": (changed(start + 16, "<I", 1), "size or checksum"),
        "bomb.zip": (changed(start + 24, "<I", 10), "unpacks to more than the zip says"),
        "large.zip": (changed(start + 24, "<I", 2**30), "more than the 1048576 accepted"),
        "secret.zip": (changed(start + 8, "<H", 1), "It is encrypted"),
        "method.zip": (changed(start + 10, "<H", 99), "packed by method 99"),
        "place.zip": (changed(start + 42, "<I", 5), "Its place in the zip is damaged"),
        "over.zip": (changed(start + 20, "<I", 2**31), "lie over each other"),
        "many.zip": (changed(end + 8, "<HH", 60000, 60000), "60000 members"),
        "zip64.zip": (changed(end + 10, "<H", 65535), "Zip64"),
        "split.zip": (changed(end + 4, "<H", 1), "split over several files"),
        "outside.zip": (changed(end + 16, "<I", 2**31), "its directory lies outside it"),
        "directory.zip": (changed(start, "<I", 0), "The zip's directory is damaged"),
    }


def test_a_zip_that_lies_is_refused_with_its_reason_and_sends_nothing(service: Running, page: Page) -> None:
    before = len(service.room.store.films(limit=50, viewer="test").films)
    bad = damaged()
    choose(page, *((name, content) for name, (content, _) in bad.items()))
    expect(page.locator("#live")).to_contain_text(f"0 received, {len(bad)} refused")
    for name, (_, words) in bad.items():
        expect(page.locator("#rows tr", has_text=name).last).to_contain_text(words)
    assert len(service.room.store.films(limit=50, viewer="test").films) == before


def test_a_dropped_file_is_sent_and_the_page_stays(page: Page) -> None:
    page.evaluate(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.dcm"));
          const told = { dataTransfer: transfer, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new DragEvent("drop", told));
        }""",
        list(film(11)),
    )
    expect(page.locator("#live")).to_contain_text("1 received")
    assert page.url.endswith("/upload")


def drop(page: Page, *paths: Path) -> None:
    """Drop what lies on the disk, as a file manager does."""
    devtools, data = page.context.new_cdp_session(page), {"items": [], "files": [*map(str, paths)]}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 200, "y": 200, "data": {**data, "dragOperationsMask": 1}}
        devtools.send("Input.dispatchDragEvent", event)


def test_a_folder_and_a_zip_are_dropped_and_opened_to_the_bottom(service: Running, page: Page, tmp_path: Path) -> None:
    deep = tmp_path / "disk" / "study" / "series"
    deep.mkdir(parents=True)
    (deep / "one.dcm").write_bytes(film(31))
    (deep.parent / "two.dcm").write_bytes(film(32))
    (tmp_path / "disk" / "DICOMDIR").write_bytes(b"directory")
    (tmp_path / "disk" / "report.txt").write_bytes(b"no film")
    (tmp_path / "more.zip").write_bytes(zipped(in__three=film(33), again=film(31)))
    drop(page, tmp_path / "disk", tmp_path / "more.zip")
    expect(page.locator("#live")).to_have_text(
        "5 of 5 done, 3 received, 1 there already, 1 refused, 1 left out (no films by name)"
    )
    for name in ("disk/study/series/one.dcm", "disk/study/two.dcm", "disk/report.txt", "more.zip/in/three"):
        expect(page.locator("#rows")).to_contain_text(name)
    assert page.url.endswith("/upload")


def test_the_keyboard_reaches_both_ways_to_choose(page: Page) -> None:
    with page.expect_file_chooser() as chosen:
        page.locator("#files").press("Enter")
    assert chosen.value.is_multiple()
    page.locator("#files").press("Tab")
    assert page.evaluate("document.activeElement.id") == "folder"


def test_a_lost_connection_is_tried_again_and_an_ended_session_says_so(service: Running, page: Page) -> None:
    page.route("**/api/v1/studies*", lambda route: route.abort(), times=1)
    choose(page, ("late.dcm", film(21)))
    expect(page.locator("#rows")).to_contain_text("The connection was lost.")
    expect(page.locator("#live")).to_contain_text("1 received")
    page.context.clear_cookies()
    choose(page, ("after.dcm", film(22)))
    expect(page.locator("#trouble")).to_contain_text("Your session has ended")
    expect(page.locator("#rows tr").last).to_contain_text("not sent")
