"""Open pages in a headless Chromium, and say where a machine has none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; the test is skipped where the machine has none."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine (make install-browser)")
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra browser is missing")
    with playwright.sync_playwright() as driver:
        # Containers run as root, where Chromium's sandbox refuses to start.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Any, address: str, size: dict[str, int] = DESKTOP) -> Iterator[Any]:
    """Open a page, and fail at the end where its console or its requests had errors."""
    complaints: list[str] = []
    page = chromium.new_page(viewport=size)
    page.on("console", lambda message: _note(complaints, message))
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:100]}"))
    try:
        page.goto(address)
        yield page
    finally:
        page.close()
    assert complaints == []


def _note(complaints: list[str], message: Any) -> None:
    if message.type in ("error", "warning"):
        complaints.append(f"{message.type}: {message.text}")
