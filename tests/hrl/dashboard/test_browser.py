"""The dashboard in a browser, beside a study that trains."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import DESKTOP, PHONE, opened

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
pytest.importorskip("dash", reason="the extra dashboard is missing")

STUDY = """
description: Two small methods, so that there is something to look at.
suites: [debug]
seeds: [0, 1]
frames: 4_096
overrides: [size=debug, tracking.wandb=disabled, tracking.tensorboard=false]
methods:
  ppo: {overrides: [agent=ppo]}
  skills: {overrides: [agent=skills]}
evaluation: {episodes: 1, baselines: [random]}
rate_seconds: 0
reuse: []
"""
PATIENCE = 300_000  # milliseconds


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a study whose process trains while the tests look at it."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "study").mkdir()
    (folder / "study" / "watched.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "hrl.cli", "study", "experiment=watched"]
    command += [f"folder={folder / 'runs'}", f"--config-dir={folder}", "local.cores=1"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        try:
            while not (folder / "runs" / "study.json").exists():
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield folder / "runs"
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def address(study: Path) -> Iterator[str]:
    from werkzeug.serving import make_server

    from hrl.dashboard.access import Access
    from hrl.dashboard.app import make_app

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = make_app([study], Access(), refresh=1.0)
    server = make_server("127.0.0.1", port, app.server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    server.shutdown()
    thread.join()


def show(page: Any, tab: str) -> None:
    page.locator(".tab", has_text=tab).click()


def test_a_study_is_followed_while_it_trains(chromium: Any, address: str) -> None:
    with opened(chromium, address) as page:
        page.wait_for_selector("#grid table", timeout=PATIENCE)
        assert page.locator("#grid .bar").count() == 4
        assert page.locator("h1").text_content().startswith("watched: Two small methods")
        page.wait_for_selector("#grid td:has-text('running')", timeout=PATIENCE)
        first = page.locator("#headline").text_content()
        page.wait_for_function(
            "text => document.querySelector('#headline').textContent != text",
            arg=first,
            timeout=PATIENCE,
        )
        page.wait_for_selector("#grid td:has-text('finished')", timeout=PATIENCE)


def test_curves_grow_and_zoom_and_hidden_lines_stay(chromium: Any, address: str) -> None:
    plotted = "document.querySelector('#curves .js-plotly-plot')"
    axis = f"{plotted}.layout.xaxis.range.join()"
    with opened(chromium, address) as page:
        page.wait_for_selector("#grid td:has-text('finished')", timeout=PATIENCE)
        show(page, "Learning curves")
        page.wait_for_selector("#curves .scatterlayer .trace path.js-line", timeout=PATIENCE)
        page.evaluate(
            f"{plotted}.on('plotly_afterplot', () => window.drawn = (window.drawn|0) + 1)"
        )
        plot = page.locator("#curves .nsewdrag").bounding_box()
        middle = plot["y"] + plot["height"] / 2
        everything = page.evaluate(axis)
        page.mouse.move(plot["x"] + 0.2 * plot["width"], middle)
        page.mouse.down()
        page.mouse.move(plot["x"] + 0.6 * plot["width"], middle + 0.4 * plot["height"], steps=5)
        page.mouse.up()
        page.wait_for_function(f"before => {axis} != before", arg=everything, timeout=PATIENCE)
        zoomed = page.evaluate(axis)
        page.locator("#curves .legendtoggle").first.click()
        page.wait_for_selector("#curves .traces[style*='opacity: 0.5']", timeout=PATIENCE)
        drawn = page.evaluate("window.drawn")
        page.wait_for_function("before => window.drawn > before + 2", arg=drawn, timeout=PATIENCE)
        assert page.evaluate(axis) == zoomed
        assert page.locator("#curves .traces[style*='opacity: 0.5']").count() == 1
        page.locator("#axis label", has_text="hours").click()
        page.wait_for_function(
            "document.querySelector('#curves').textContent.includes('hours of training')",
            timeout=PATIENCE,
        )
        page.locator("#smoothing label", has_text="20 points").click()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_tab_shows_something(chromium: Any, address: str, size: dict[str, int]) -> None:
    with opened(chromium, address, size) as page:
        page.wait_for_selector("#grid td:has-text('finished')", timeout=PATIENCE)
        show(page, "Tasks")
        page.wait_for_selector("#task-table td", timeout=PATIENCE)
        show(page, "Hierarchy")
        page.wait_for_selector("#hierarchy .heatmaplayer image", timeout=PATIENCE)
        show(page, "Alerts")
        page.wait_for_selector("#alerts p, #alerts td", timeout=PATIENCE)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_a_video_plays_on_while_the_page_is_updated(chromium: Any, address: str) -> None:
    with opened(chromium, address) as page:
        # A new video of a run takes the place of an older one, so that there must be none to come.
        page.wait_for_function(
            "[...document.querySelectorAll('#grid td')]"
            ".filter(cell => cell.textContent.includes('finished')).length == 4",
            timeout=PATIENCE,
        )
        show(page, "Videos")
        page.wait_for_selector("#videos video", timeout=PATIENCE)
        page.evaluate("window.first = document.querySelector('video'); first.play()")
        page.wait_for_function("first.currentTime > 0.1", timeout=PATIENCE)
        page.wait_for_timeout(3000)  # updates in between
        assert page.evaluate("document.contains(first) && !first.paused")
