"""Tests of the documents: short, linked to what exists, and made of commands that run."""

import csv
import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hrl.cli import COMMANDS
from hrl.config import load
from tests.document_blocks import run_steps, steps_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "results/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
MEGABYTES = 8
MOST_WORDS = 120  # of a paragraph
MOST_LINES = 120  # of the README
PAGES_WITH_STEPS = [
    ROOT / name
    for name in (
        "README.md",
        "docs/index.md",
        "docs/tutorial.md",
        "docs/extending.md",
        "docs/clusters.md",
    )
]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
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
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *(pixel-hrl train .*)$", text, re.MULTILINE):
            command = line.replace("$agent", "skills").replace("$seed", "1")
            arguments = shlex.split(command, comments=True)[2:]
            of_another_module = any(word.startswith("suite=gym/my_") for word in arguments)
            if of_another_module or "..." in arguments:
                continue
            if not any(word.startswith("-") for word in arguments):
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


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_paragraphs_are_short(page):
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    items = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) ?)", text)
    for item in items:
        assert item.lstrip().startswith("|") or len(item.split()) <= MOST_WORDS, item


@pytest.mark.parametrize("page", PAGES_WITH_STEPS, ids=lambda page: page.name)
def test_files_and_programs_of_the_pages_can_be_read(page):
    steps = steps_of(page)
    assert any(kind == "command" for kind, *_ in steps)
    for kind, *content in steps:
        if kind == "python" or (kind == "file" and content[0].endswith(".py")):
            compile(content[-1], str(page), "exec")
        elif kind == "file":
            assert yaml.safe_load(content[1])["name"] == Path(content[0]).stem


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_WITH_STEPS, ids=lambda page: page.name)
def test_the_steps_of_the_page_lead_to_their_end(page, tmp_path):
    """Every file, program and command, in one folder and in their order, at debug size."""
    run_steps(steps_of(page), tmp_path)
    for scores in tmp_path.glob("runs/**/scores.csv"):
        assert pd.read_csv(scores)["return"].notna().all()
    if page.name == "tutorial.md":
        assert (tmp_path / "splits.png").stat().st_size > 0
        assert (tmp_path / "report" / "report.html").exists()


TABLES = sorted((ROOT / "results").glob("**/*.csv"))


@pytest.mark.parametrize("table", TABLES, ids=[str(table.relative_to(ROOT)) for table in TABLES])
def test_rows_have_a_value_for_every_column_and_none_is_there_twice(table):
    with table.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert [row for row in rows if len(row) != len(head)] == []
    assert len(set(map(tuple, rows))) == len(rows)


def test_the_checkout_is_light():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    size = sum(path.stat().st_size for path in files if path.exists())
    assert size < MEGABYTES * 1e6
