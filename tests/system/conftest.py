"""The browser that drives the pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.conftest import require
from tests.system.browser import CHROMIUM, chromium

expect.set_options(timeout=60_000)  # a busy machine is no fault of the page's


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require(CHROMIUM, "the browser Chromium (Debian: chromium)")
    with chromium() as started:
        yield started
