"""The report in a browser: figures and videos show, nothing is cut off, on phones and desktops."""

import numpy as np
import pytest

from hrl import reporting
from hrl.evaluation.video_writer import write_mp4
from tests.browser import DESKTOP, PHONE, opened
from tests.hrl.synthetic_runs import position_suite, write_fixed, write_trained

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report with figures, tables and a real video."""
    folder = tmp_path_factory.mktemp("pages")
    images = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    write_mp4(folder / "film.mp4", images, fps=20)
    videos = {"000120000_train_0": (folder / "film.mp4").read_bytes()}
    for seed in range(2):
        run = folder / "runs" / f"flat_{seed}"
        write_trained(run, position_suite(), seed=seed, videos=videos)
        run = folder / "runs" / f"skills_{seed}"
        write_trained(run, position_suite(), method="skills", skills=3, seed=seed, videos=videos)
    write_fixed(folder / "runs" / "random", position_suite())
    runs = reporting.load_runs([folder / "runs"])
    return f"file://{reporting.write_report(runs, folder / 'report', 'command')}"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_everything_shows_and_only_tables_and_figures_scroll_sideways(
    chromium, address: str, size
) -> None:
    with opened(chromium, address, size) as page:
        drawn = page.evaluate("[...document.images].map(one => one.naturalWidth)")
        assert len(drawn) >= 10
        assert min(drawn) > 100
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        fonts = page.evaluate(
            "[...document.querySelectorAll('p, td, figcaption')]"
            ".map(one => parseFloat(getComputedStyle(one).fontSize))"
        )
        assert min(fonts) >= 12
        widths = page.evaluate("[...document.querySelectorAll('p')].map(one => one.offsetWidth)")
        assert max(widths) <= size["width"]


def test_videos_play(chromium, address: str) -> None:
    with opened(chromium, address) as page:
        videos = page.locator("video")
        assert videos.count() == 2
        for index in range(2):
            videos.nth(index).scroll_into_view_if_needed()
            page.wait_for_function(
                f"document.querySelectorAll('video')[{index}].currentTime > 0.1", timeout=60_000
            )
        assert page.evaluate("document.querySelector('video').videoWidth") == 64


def test_contents_lead_to_sections_and_folded_tables_open(chromium, address: str) -> None:
    with opened(chromium, address) as page:
        links = page.locator("nav a")
        for index in range(links.count()):
            name = links.nth(index).get_attribute("href")
            assert page.locator(f"section{name}").count() == 1
        folded = page.locator("#claims details")
        assert not folded.locator("table").is_visible()
        folded.locator("summary").click()
        assert folded.locator("table").is_visible()
