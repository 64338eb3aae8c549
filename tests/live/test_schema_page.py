"""The page of messages in a real browser."""

from pathlib import Path

import pytest

from schemas.asyncapi import document
from schemas.html_page import page as page_of
from tools.harness.browser import DESKTOP, PHONE, browsing, chromium

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium")


async def test_page_is_readable_on_every_screen_and_theme(tmp_path: Path) -> None:
    """Desktop and phone, light and dark: nothing wider than the screen, nothing fetched, no browser error."""
    file = tmp_path / "messages.html"
    file.write_text(page_of(document()), "utf-8")
    async with browsing() as page:
        grounds = set()
        for size in (DESKTOP, PHONE):
            for dark in (False, True):
                await page.open(file.as_uri(), size, dark=dark)
                assert await page.value("document.documentElement.scrollWidth <= innerWidth")
                grounds.add(await page.value("getComputedStyle(document.body).backgroundColor"))
                await page.screenshot(tmp_path / f"{size[0]}-{dark}.png")
        assert len(grounds) == 2
        assert await page.value("document.querySelectorAll('article').length") == 13
        assert (set(page.requested), page.complaints) == ({file.as_uri()}, [])
