"""Tests of the documents: short, linked to what exists, and speaking of commands that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from hrl.cli import COMMANDS
from hrl.config import load

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


def _train_commands():
    for page in PAGES:
        for line in re.findall(r"^ *(pixel-hrl train .*)$", page.read_text("utf-8"), re.MULTILINE):
            command = line.replace("$agent", "skills").replace("$seed", "1")
            arguments = shlex.split(command, comments=True)[2:]
            if "..." not in arguments and not any(word.startswith("-") for word in arguments):
                yield " ".join(arguments)


@pytest.mark.parametrize("overrides", sorted(set(_train_commands())))
def test_training_commands_are_valid(overrides):
    arguments = overrides.split()
    if "experiment=half_hour" in arguments or "experiment=walker_hour" in arguments:
        arguments = [word.replace("agent=skills", "agent=dreamer") for word in arguments]
    assert load(arguments)


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
