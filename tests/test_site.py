"""Tests of the site: whole tables of keys, and built pages that fit a telephone."""

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hrl.cli.config_keys import list_keys
from tests.browser import DESKTOP, PHONE, opened

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"^<!-- keys of agent=(\w+):(?: ([\w.]+))? -->$", re.MULTILINE)
OF_ALL_AGENTS = {"", "evaluation", "tracking", "network", "network.encoder", "network.world_model"}
ELSEWHERE = {
    ("dreamer", "agent.goal_autoencoder"): ("director", "agent.goal_autoencoder"),
    ("director", "agent.worker"): ("director", "agent.manager"),
    ("director", "agent.conditioning"): ("dreamer", "agent.conditioning"),
    ("director", "agent.world_model_loss"): ("dreamer", "agent.world_model_loss"),
}
"""Nodes of an agent whose keys stand in the table of another one."""
PAGES = ("", "tutorial/", "results/", "methods/ppo/", "methods/director/", "api/", "suites/")
# What may be wider than the page scrolls by itself: tables, code, formulas and figures.
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def tables() -> set[tuple[str, str]]:
    """The nodes that the pages have a table of, each with its agent."""
    pages = [page.read_text(encoding="utf-8") for page in ROOT.glob("docs/**/*.md")]
    return {found for text in pages for found in MARKER.findall(text)}


@pytest.mark.parametrize("agent", ["ppo", "skills", "dreamer", "director", "sb3_ppo", "sb3_sac"])
def test_every_key_of_an_agent_is_in_a_table(agent, tables):
    keys = list_keys([f"agent={agent}", "suite=point_mass"])
    for node in {key.path.rpartition(".")[0] for key in keys}:
        shared = "dreamer" if node == "network.world_model" else "ppo"
        own = (shared if node in OF_ALL_AGENTS else agent, node)
        assert ELSEWHERE.get(own, own) in tables, own


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """The address of the built site, on this machine."""
    build = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config")
    folder = tmp_path_factory.mktemp("site")
    build.build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page or "index")
def test_a_page_fits_and_needs_no_other_host(site, chromium, page, size):
    hosts: list[str] = []
    with opened(chromium, "about:blank", size) as shown:
        shown.on("request", lambda request: hosts.append(request.url))
        shown.goto(f"{site}/{page}", wait_until="networkidle")
        assert not shown.evaluate(TOO_WIDE)
        assert shown.locator("h1").count() == 1
        formulas = shown.locator("math").count()
    assert all(url.startswith((site, "data:")) for url in hosts)
    assert formulas > 0 or not page.startswith("methods/")
