"""The browser that drives the pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from tests.conftest import require
from tests.system.browser import CHROMIUM, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require(CHROMIUM, "the browser Chromium (Debian: chromium)")
    with chromium() as started:
        yield started
