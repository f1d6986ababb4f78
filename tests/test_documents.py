"""Tests of the documents: short, linked to what exists, and speaking of commands that exist."""

import re
import subprocess
from pathlib import Path

import pytest

from hrl.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    path
    for pattern in ("*.md", "docs/*.md", "docs/suites/*.md", "results/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
MEGABYTES = 8
MOST_WORDS = 120  # of a paragraph of the README
MOST_LINES = 120  # of the README


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"pixel-hrl ([a-z]+)\b", text):
        assert command in COMMANDS, command
    for script in re.findall(r"(?<![/\w])scripts/(\w+\.py)", text):
        assert (ROOT / "scripts" / script).exists(), script


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert max(len(paragraph.split()) for paragraph in text.split("\n\n")) <= MOST_WORDS


def test_the_checkout_is_light():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    size = sum(path.stat().st_size for path in files if path.exists())
    assert size < MEGABYTES * 1e6
